"""How views get the objects of protected machines, and the rules of what may be done to them."""

from uuid import UUID

from django.db.models import QuerySet

from console.accounts.access import User, get_for
from console.accounts.roles import Permission
from console.jobs.access import JobRule
from protected_machines.models import Machine, RecoveryPoint, RestoreTarget, VCenter

RULES = {
    f"protected_machines:{name}": permission
    for name, permission in {
        # machines
        "machines": Permission.WATCH,
        "machine": Permission.WATCH,
        "machine-protect": Permission.CONFIGURE,
        "machine-pause": Permission.CONFIGURE,
        "machine-resume": Permission.CONFIGURE,
        "machine-find": Permission.CONFIGURE,
        "machine-schedule": Permission.CONFIGURE,
        "owner-settle": Permission.CONFIGURE,
        # recovery points
        "snapshot-force": Permission.SNAPSHOT,
        "export-start": Permission.EXPORT,
        "restore-start": Permission.CONFIGURE,
        "archive-start": Permission.CONFIGURE,
        "import-start": Permission.CONFIGURE,
        # the machine that a job looks for; the address is an act on that job
        "job-address": Permission.WATCH,
        "job-screen": Permission.WATCH,
        "job-screenshot": Permission.WATCH,
        # whoever fails machines back starts rescue machines with it
        "rescue-medium": Permission.RECOVER,
        # vCenters
        "vcenter-add": Permission.CONFIGURE,
        "vcenter-check": Permission.CONFIGURE,
        "vcenter-password": Permission.CONFIGURE,
        "vcenter-remove": Permission.CONFIGURE,
    }.items()
}
JOB_RULES = {
    "snapshot": JobRule(retry=Permission.SNAPSHOT),
    "export": JobRule(Permission.EXPORT, Permission.EXPORT),
    # Part of a failback.
    "restore_disks": JobRule(Permission.RECOVER, Permission.RECOVER),
}


def get_machine_for(user: User, machine_id: UUID) -> Machine:
    """Return a machine, or answer 404."""
    return get_for(user, Machine.objects.all(), pk=machine_id)


def get_point_for(user: User, machine: Machine, point_id: UUID) -> RecoveryPoint:
    """Return a recovery point of a machine that the user may see, or answer 404."""
    return get_for(user, RecoveryPoint.objects.filter(machine=machine), pk=point_id)


def get_restore_target_for(user: User, target_id: UUID) -> RestoreTarget:
    """Return a rescue machine that this core has paired with, or answer 404."""
    return get_for(user, RestoreTarget.objects.all(), pk=target_id)


def get_vcenter_for(user: User, vcenter_id: UUID) -> VCenter:
    """Return a vCenter, or answer 404."""
    return get_for(user, VCenter.objects.all(), pk=vcenter_id)


def list_vcenters_for(user: User) -> QuerySet[VCenter]:
    """Return the vCenters that the user may export to."""
    return VCenter.objects.all() if user.is_authenticated else VCenter.objects.none()
