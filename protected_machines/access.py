"""The one door to each object of protected machines, for views."""

from uuid import UUID

from django.db.models import QuerySet

from console.accounts.access import User, get_for, get_for_change
from protected_machines.models import Machine, RecoveryPoint, RestoreTarget, VCenter


def get_machine_for(user: User, machine_id: UUID) -> Machine:
    """Return a machine to show, or answer 404."""
    return get_for(user, Machine.objects.all(), pk=machine_id)


def get_machine_for_change(user: User, machine_id: UUID) -> Machine:
    """Return a machine to act on: 404 if it does not exist, 403 for a read-only user."""
    return get_for_change(user, Machine.objects.all(), pk=machine_id)


def get_point_for(user: User, machine: Machine, point_id: UUID) -> RecoveryPoint:
    """Return a recovery point of a machine that the user may see, or answer 404."""
    return get_for(user, RecoveryPoint.objects.filter(machine=machine), pk=point_id)


def get_restore_target_for(user: User, target_id: UUID) -> RestoreTarget:
    """Return a rescue machine that this core has paired with, or answer 404."""
    return get_for(user, RestoreTarget.objects.all(), pk=target_id)


def get_vcenter_for_change(user: User, vcenter_id: UUID) -> VCenter:
    """Return a vCenter to change: 404 if it does not exist, 403 for a read-only user."""
    return get_for_change(user, VCenter.objects.all(), pk=vcenter_id)


def list_vcenters_for(user: User) -> QuerySet[VCenter]:
    """Return the vCenters that the user may export to."""
    return VCenter.objects.all() if user.is_authenticated else VCenter.objects.none()
