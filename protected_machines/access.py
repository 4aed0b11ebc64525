"""The one door to each object, for views. Unknown or not allowed is the same: not found."""

from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404

from protected_machines.models import Machine, RecoveryPoint, RestoreTarget, VCenter

User = AbstractBaseUser | AnonymousUser


def get_machine_for(user: User, machine_id: UUID) -> Machine:
    """Return a machine that the user may look at.

    Raises:
        Http404: there is none, or it is not for this user.
    """
    _require_signed_in(user)
    return get_object_or_404(Machine, pk=machine_id)


def get_machine_for_change(user: User, machine_id: UUID) -> Machine:
    """Return a machine that the user may act on.

    Raises:
        Http404: there is none, or it is not for this user.
    """
    return get_machine_for(user, machine_id)


def get_point_for(user: User, machine: Machine, point_id: UUID) -> RecoveryPoint:
    """Return a recovery point of a machine that the user was given.

    Raises:
        Http404: the machine has no such point.
    """
    _require_signed_in(user)
    return get_object_or_404(RecoveryPoint, pk=point_id, machine=machine)


def get_restore_target_for(user: User, target_id: UUID) -> RestoreTarget:
    """Return a rescue machine that this core has paired with.

    Raises:
        Http404: there is none, or it is not for this user.
    """
    _require_signed_in(user)
    return get_object_or_404(RestoreTarget, pk=target_id)


def get_vcenter_for(user: User, vcenter_id: UUID) -> VCenter:
    """Return a vCenter that the user may look at.

    Raises:
        Http404: there is none, or it is not for this user.
    """
    _require_signed_in(user)
    return get_object_or_404(VCenter, pk=vcenter_id)


def get_vcenter_for_change(user: User, vcenter_id: UUID) -> VCenter:
    """Return a vCenter that the user may change.

    Raises:
        Http404: there is none, or it is not for this user.
    """
    return get_vcenter_for(user, vcenter_id)


def list_vcenters_for(user: User) -> QuerySet[VCenter]:
    """Return the vCenters that the user may export to."""
    _require_signed_in(user)
    return VCenter.objects.all()


def _require_signed_in(user: User) -> None:
    if not user.is_authenticated:
        raise Http404
