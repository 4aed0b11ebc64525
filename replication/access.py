"""How views get the objects of replication, and the rules of what may be done to them."""

from uuid import UUID

from django.db.models import QuerySet

from console.accounts.access import User, get_for
from console.accounts.roles import Permission
from console.jobs.access import JobRule
from replication.models import (
    Failback,
    Failover,
    Pairing,
    ReplicatedMachine,
    ReplicatedMachineQuerySet,
    SeedDrive,
)

RULES = {
    f"replication:{name}": permission
    for name, permission in {
        "page": Permission.WATCH,
        # cores
        "target-core-add": Permission.CONFIGURE,
        "source-core-add": Permission.CONFIGURE,
        "pairing-code-make": Permission.CONFIGURE,
        "pairing": Permission.WATCH,
        "pairing-settings": Permission.CONFIGURE,
        "pairing-machines-add": Permission.CONFIGURE,
        "pairing-seed-drive": Permission.CONFIGURE,
        "pairing-consume": Permission.CONFIGURE,
        "pairing-pause": Permission.CONFIGURE,
        "pairing-resume": Permission.CONFIGURE,
        "pairing-force": Permission.CONFIGURE,
        "pairing-fail-over": Permission.RECOVER,
        "pairing-failback": Permission.RECOVER,
        # machines
        "machine": Permission.WATCH,
        "machine-pause": Permission.CONFIGURE,
        "machine-resume": Permission.CONFIGURE,
        "machine-force": Permission.CONFIGURE,
        "machine-fail-over": Permission.RECOVER,
        "machine-failback": Permission.RECOVER,
        "machine-seed-drive": Permission.CONFIGURE,
        "seed-drive-abandon": Permission.CONFIGURE,
        "protected-machine-replicate": Permission.CONFIGURE,
        # failovers
        "failover": Permission.WATCH,
        "failover-cancel": Permission.RECOVER,
        "failover-retry": Permission.RECOVER,
        # failbacks
        "failback": Permission.WATCH,
        "failback-commit": Permission.RECOVER,
        "failback-roll-back": Permission.RECOVER,
        "failback-cancel": Permission.RECOVER,
        "failback-retry": Permission.RECOVER,
    }.items()
}
JOB_RULES = {
    "replicate": JobRule(retry=Permission.SNAPSHOT),
    **dict.fromkeys(
        ("failover", "failback", "failback_commit", "failback_roll_back"),
        JobRule(Permission.RECOVER, Permission.RECOVER),
    ),
}


def get_pairing_for(user: User, pairing_id: UUID) -> Pairing:
    """Return a pairing, or answer 404."""
    return get_for(user, Pairing.objects.all(), pk=pairing_id)


def get_replicated_for(user: User, replicated_id: UUID) -> ReplicatedMachine:
    """Return a replicated machine, or answer 404."""
    return get_for(user, _replicated(), pk=replicated_id)


def get_failover_for(user: User, failover_id: UUID) -> Failover:
    """Return a failover, or answer 404."""
    return get_for(user, _failovers(), pk=failover_id)


def get_seed_drive_for(user: User, seed_drive_id: UUID) -> SeedDrive:
    """Return a seed drive, or answer 404."""
    rows = SeedDrive.objects.select_related("replicated__machine", "replicated__pairing")
    return get_for(user, rows, pk=seed_drive_id)


def _replicated() -> ReplicatedMachineQuerySet:
    return ReplicatedMachine.objects.select_related("machine", "pairing")


def _failovers() -> QuerySet[Failover]:
    return Failover.objects.select_related("pairing", "requested_by")


def get_failback_for(user: User, failback_id: UUID) -> Failback:
    """Return a failback, or answer 404."""
    return get_for(user, _failbacks(), pk=failback_id)


def _failbacks() -> QuerySet[Failback]:
    return Failback.objects.select_related("pairing", "requested_by")
