"""How views get the objects of replication: the access rules in one place."""

from uuid import UUID

from django.db.models import QuerySet

from console.accounts.access import User, get_for, get_for_change
from replication.models import (
    Failback,
    Failover,
    Pairing,
    ReplicatedMachine,
    ReplicatedMachineQuerySet,
    SeedDrive,
)


def get_pairing_for(user: User, pairing_id: UUID) -> Pairing:
    """Return a pairing to show, or answer 404."""
    return get_for(user, Pairing.objects.all(), pk=pairing_id)


def get_pairing_for_change(user: User, pairing_id: UUID) -> Pairing:
    """Return a pairing to act on: 404 if there is none, 403 for users who may only read."""
    return get_for_change(user, Pairing.objects.all(), pk=pairing_id)


def get_replicated_for(user: User, replicated_id: UUID) -> ReplicatedMachine:
    """Return a replicated machine to show, or answer 404."""
    return get_for(user, _replicated(), pk=replicated_id)


def get_replicated_for_change(user: User, replicated_id: UUID) -> ReplicatedMachine:
    """Return a replicated machine to act on: 404, or 403 for users who may only read."""
    return get_for_change(user, _replicated(), pk=replicated_id)


def get_failover_for(user: User, failover_id: UUID) -> Failover:
    """Return a failover to show, or answer 404."""
    return get_for(user, _failovers(), pk=failover_id)


def get_failover_for_change(user: User, failover_id: UUID) -> Failover:
    """Return a failover to act on: 404, or 403 for users who may only read."""
    return get_for_change(user, _failovers(), pk=failover_id)


def get_seed_drive_for_change(user: User, seed_drive_id: UUID) -> SeedDrive:
    """Return a seed drive to act on: 404, or 403 for users who may only read."""
    rows = SeedDrive.objects.select_related("replicated__machine", "replicated__pairing")
    return get_for_change(user, rows, pk=seed_drive_id)


def _replicated() -> ReplicatedMachineQuerySet:
    return ReplicatedMachine.objects.select_related("machine", "pairing")


def _failovers() -> QuerySet[Failover]:
    return Failover.objects.select_related("pairing", "requested_by")


def get_failback_for(user: User, failback_id: UUID) -> Failback:
    """Return a failback to show, or answer 404."""
    return get_for(user, _failbacks(), pk=failback_id)


def get_failback_for_change(user: User, failback_id: UUID) -> Failback:
    """Return a failback to act on: 404, or 403 for users who may only read."""
    return get_for_change(user, _failbacks(), pk=failback_id)


def _failbacks() -> QuerySet[Failback]:
    return Failback.objects.select_related("pairing", "requested_by")
