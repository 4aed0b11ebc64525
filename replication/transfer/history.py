"""Points off a machine's main line: taken at one site while its history continued at another.

They stay in the store that has them and can be restored and exported, but are not replicated.
"""

import logging
from collections.abc import Collection
from uuid import UUID

from django.db.models import F, Q

from console.identity import this_core
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.models.points import position_of
from replication.models import Pairing, ReplicatedMachine

logger = logging.getLogger(__name__)

_BATCH = 500


def mark_unsent(pairing: Pairing) -> int:
    """Mark this core's unsent points of machines that run at the peer's site; return how many.

    This core knows only what the peer acknowledged; `mark_by_history` is exact.
    """
    if not pairing.is_outgoing:
        return 0
    core_id = this_core().id
    lost = ReplicatedMachine.objects.filter(pairing=pairing).exclude(machine__owner_core_id=core_id)
    marked = 0
    for machine_id, epoch, last_id, last_at in lost.values_list(
        "machine_id", "machine__ownership_epoch", "last_point_id", "last_point_at"
    ):
        unsent = RecoveryPoint.objects.carried_on().filter(
            machine_id=machine_id, taken_by_core_id=core_id, ownership_epoch__lt=epoch
        )
        if last_at is not None:
            unsent = unsent.filter(position__gt=position_of(machine_id, last_id, last_at))
        marked += unsent.update(is_carried_on=False)
    if marked:
        logger.warning("points off the main line pairing_id=%s points=%s", pairing.pk, marked)
    return marked


def mark_by_history(machine: Machine, owner_point_ids: Collection[UUID], before_epoch: int) -> int:
    """Mark this core's points that are not in the owner's history; return how many.

    owner_point_ids: all points that the owner holds. The points they build on belong to the history
        too, even if the owner has not kept them.
    before_epoch: points of this epoch and later are the owner's and are left alone.
    """
    parents = dict(RecoveryPoint.objects.filter(machine=machine).values_list("pk", "parent_id"))
    held = set(owner_point_ids)
    main_line: set[UUID] = set()
    for point_id in parents.keys() & held:
        at: UUID | None = point_id
        while at is not None and at not in main_line:
            main_line.add(at)
            at = parents.get(at)
    off_it = [point_id for point_id in parents if point_id not in main_line]
    _set_on_main_line(machine, main_line, True)
    return _set_on_main_line(machine, off_it, False, Q(ownership_epoch__lt=before_epoch))


def keep_history_of(machine: Machine, point_id: UUID | str) -> int:
    """Mark the points taken after the one that the machine went back to; return how many."""
    at = RecoveryPoint.objects.filter(machine=machine, pk=point_id).first()
    if at is None:
        return 0
    later = RecoveryPoint.objects.carried_on().filter(
        machine=machine, ownership_epoch__gt=at.ownership_epoch, position__gt=at.position
    )
    return later.exclude(ownership_epoch=F("machine__ownership_epoch")).update(is_carried_on=False)


def _set_on_main_line(
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
