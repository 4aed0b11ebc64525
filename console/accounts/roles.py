"""Who may do what: the roles, and the permissions that each one has."""

from enum import StrEnum

from django.db.models import TextChoices


class Role(TextChoices):
    """What a user is on this core. Each user has one role."""

    HELPDESK = "helpdesk", "Helpdesk"
    TEST_OPERATOR = "test_operator", "Test operator"
    RECOVERY_ADMINISTRATOR = "recovery_administrator", "Recovery administrator"
    ADMINISTRATOR = "administrator", "Administrator"
    MANAGER = "manager", "Manager"
    AUDITOR = "auditor", "Auditor"


class Permission(StrEnum):
    """What a rule asks for. The value completes “may …”."""

    OWN_ACCOUNT = "sign in and manage their own account"
    STATUS = "see what could be recovered"
    WATCH = "see machines, recovery points, replication and jobs"
    SNAPSHOT = "force snapshots, and retry failed snapshots and replications"
    EXPORT = "export recovery points"
    RECOVER = "fail over, fail back, commit and roll back"
    SETTINGS = "see the settings"
    AUDIT = "see and export the audit log"
    USERS = "manage users"
    CONFIGURE = "change settings, pairings, machines and recovery points"


_SEES = frozenset({Permission.OWN_ACCOUNT, Permission.STATUS, Permission.WATCH})
_HELPS = _SEES | {Permission.SNAPSHOT}

GRANTS: dict[Role, frozenset[Permission]] = {
    Role.HELPDESK: _HELPS,
    Role.TEST_OPERATOR: _HELPS | {Permission.EXPORT},
    Role.RECOVERY_ADMINISTRATOR: _HELPS | {Permission.RECOVER},
    Role.ADMINISTRATOR: frozenset(Permission),
    Role.MANAGER: frozenset({Permission.OWN_ACCOUNT, Permission.STATUS}),
    Role.AUDITOR: _SEES | {Permission.SETTINGS, Permission.AUDIT},
}


def roles_with(permission: Permission) -> list[Role]:
    """Return the roles that have the permission, in the order of `Role`."""
    return [role for role in Role if permission in GRANTS[role]]
