"""The rules of who may read the audit log and export it."""

from console.accounts.roles import Permission

RULES = dict.fromkeys(("audit:log", "audit:entry", "audit:export"), Permission.AUDIT)
