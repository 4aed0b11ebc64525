"""Who may do what: the roles, and the permissions that each one has."""

from enum import Enum

from django.db.models import TextChoices


class Role(TextChoices):
    """What a user is on this core. Each user has one role."""

    HELPDESK = "helpdesk", "Helpdesk"
    TEST_OPERATOR = "test_operator", "Test operator"
    RECOVERY_ADMINISTRATOR = "recovery_administrator", "Recovery administrator"
    ADMINISTRATOR = "administrator", "Administrator"
    MANAGER = "manager", "Manager"
    AUDITOR = "auditor", "Auditor"


class Permission(Enum):
    """What a rule asks for."""

    # sign-in, one's own password and second factor
    OWN_ACCOUNT = "own_account"
    # what could be recovered: home page, DR status and its reports
    STATUS = "status"
    # machines, recovery points, replication and jobs
    WATCH = "watch"
    # force snapshots, and retry failed snapshots and replications
    SNAPSHOT = "snapshot"
    EXPORT = "export"
    # fail over, fail back, commit and roll back
    RECOVER = "recover"
    # see the settings; to change them is `CONFIGURE`
    SETTINGS = "settings"
    # see and export the audit log
    AUDIT = "audit"
    USERS = "users"
    # everything else: settings, pairings, machines, schedules, recovery points
    CONFIGURE = "configure"


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
