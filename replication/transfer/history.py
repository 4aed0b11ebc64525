"""Points that a machine went on without: taken at one site while it was carried on at another.

They stay whole in the store that has them, can be restored and exported, and are not replicated.
"""

import logging
from collections.abc import Collection
from uuid import UUID

from django.db.models import F, Q

from console.identity import this_core
from protected_machines.models import Machine, RecoveryPoint
from replication.models import Pairing, ReplicatedMachine

logger = logging.getLogger(__name__)

_BATCH = 500


def mark_unsent(pairing: Pairing) -> int:
    """Mark what this core never sent of machines that run at the peer's site; return how many.

    What the peer holds is known here only by what it acknowledged; `mark_by_history` is exact.
    """
    if not pairing.is_outgoing:
        return 0
    core_id = this_core().id
    lost = ReplicatedMachine.objects.filter(pairing=pairing).exclude(machine__owner_core_id=core_id)
    marked = 0
    for machine_id, epoch, last_at in lost.values_list(
        "machine_id", "machine__ownership_epoch", "last_point_at"
    ):
        unsent = RecoveryPoint.objects.carried_on().filter(
            machine_id=machine_id, taken_by_core_id=core_id, ownership_epoch__lt=epoch
        )
        if last_at is not None:
            unsent = unsent.filter(taken_at__gt=last_at)
        marked += unsent.update(is_carried_on=False)
    if marked:
        logger.warning("points not carried on pairing_id=%s points=%s", pairing.pk, marked)
    return marked


def mark_by_history(machine: Machine, owner_point_ids: Collection[UUID], before_epoch: int) -> int:
    """Mark this core's points that the owner's history does not have; return how many.

    owner_point_ids: all points that the owner holds. What those build on belongs to the history
        too, although the owner may not have kept it.
    before_epoch: points of this epoch and later are the owner's own and are left alone.
    """
    parents = dict(RecoveryPoint.objects.filter(machine=machine).values_list("pk", "parent_id"))
    held = set(owner_point_ids)
    carried: set[UUID] = set()
    for point_id in parents.keys() & held:
        at: UUID | None = point_id
        while at is not None and at not in carried:
            carried.add(at)
            at = parents.get(at)
    left = [point_id for point_id in parents if point_id not in carried]
    _set_carried_on(machine, carried, True)
    return _set_carried_on(machine, left, False, Q(ownership_epoch__lt=before_epoch))


def keep_history_of(machine: Machine, point_id: UUID | str) -> int:
    """Mark what this core holds beyond a point that the machine went back to; return how many."""
    at = RecoveryPoint.objects.filter(machine=machine, pk=point_id).first()
    if at is None:
        return 0
    later = RecoveryPoint.objects.carried_on().filter(
        machine=machine, ownership_epoch__gt=at.ownership_epoch, taken_at__gt=at.taken_at
    )
    return later.exclude(ownership_epoch=F("machine__ownership_epoch")).update(is_carried_on=False)


def _set_carried_on(
    machine: Machine, point_ids: Collection[UUID], value: bool, also: Q | None = None
) -> int:
    changed = 0
    ordered = sorted(point_ids)
    for start in range(0, len(ordered), _BATCH):
        rows = RecoveryPoint.objects.filter(
            machine=machine, pk__in=ordered[start : start + _BATCH], is_carried_on=not value
        )
        changed += (rows.filter(also) if also is not None else rows).update(is_carried_on=value)
    return changed
