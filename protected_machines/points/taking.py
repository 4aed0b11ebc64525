"""Take one recovery point: stream the agent's disks into the store, and index it."""

import logging
import time
from contextlib import suppress
from dataclasses import asdict
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from agent.client import ParentDisk, SnapshotResult
from console.jobs.report import SILENCE, Report, at_each_slice
from protected_machines import ownership
from protected_machines.agents.connection import dial, recording_connection
from protected_machines.choices import LIVE_KINDS, PointKind, PointState
from protected_machines.errors import MachineNotLive
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points.index import index_point
from protected_machines.points.policy import KindChoice, ParentCandidate, choose_kind
from protected_machines.points.store import open_store
from recovery_store.errors import ChainBroken, PointMissing
from recovery_store.order import oldest_first
from recovery_store.point_writer import PointWriter
from recovery_store.store import Store

logger = logging.getLogger(__name__)


def take_recovery_point(
    machine: Machine,
    kind: PointKind | str,
    point_id: UUID | str,
    report: Report = SILENCE,
    hold_seconds: int = 0,
    watch_seconds: int = 0,
) -> RecoveryPoint:
    """Take a recovery point of a machine that this core owns. Idempotent by `point_id`.

    With `hold_seconds`, the machine's file systems stay frozen afterwards until they are released
    or the time is up, so that nothing is written after the point. With `watch_seconds`, the agent
    tracks what is written after the point for at most that long, so that a later point with a hold
    reads only that. If whole disks have to be read instead, the report says so.

    If no earlier point can be the parent of an incremental, a base image is taken, and the report
    says why. A failure or a cancel at any moment leaves nothing in the store.

    Raises:
        NotTheOwner: another core owns the machine.
        MachineNotLive: this core only holds copies.
        AgentError: the agent cannot be reached, is not the paired one, or broke off.
        StoreError: the store is full, or rejected what arrived.
    """
    store = open_store()
    manifest = store.find_point(str(machine.pk), str(point_id))
    if manifest is not None:
        return index_point(machine, manifest)
    ownership.check_owner(machine, ask=True)
    _check_live(machine)
    choice, parent_id = choose_parent(store, machine, PointKind(kind))
    if choice.reason:
        report.note(f"Taking a base image: {choice.reason}.")
    started = time.monotonic()
    logger.info(
        "take point start machine_id=%s point_id=%s kind=%s parent_id=%s reason=%s",
        machine.pk,
        point_id,
        choice.kind,
        parent_id,
        choice.reason,
    )
    epoch = machine.ownership_epoch
    with store.begin_point(
        str(machine.pk), machine.name, str(point_id), parent_id, taken_at=timezone.now()
    ) as writer:
        taken = _stream(machine, writer, report, hold_seconds, watch_seconds)
        # The copy may have taken hours: the point counts only if this core is still the owner.
        ownership.check_owner(machine)
        manifest = writer.commit(
            taken.description.to_json(),
            taken.consistency,
            str(machine.owner_core_id),
            machine.owner_core_name,
            epoch,
        )
    point = index_point(machine, manifest, is_newest=True)
    machine.record_description(taken.description)
    logger.info(
        "take point end machine_id=%s point_id=%s stored_bytes=%s is_watched=%s why_whole=%s "
        "seconds=%.1f",
        machine.pk,
        point_id,
        point.stored_bytes,
        taken.is_watched,
        taken.why_whole or "-",
        time.monotonic() - started,
    )
    _note_whole_reads(report, taken, is_watch_wanted=bool(watch_seconds))
    return point


def _check_live(machine: Machine) -> None:
    if machine.kind not in LIVE_KINDS:
        raise MachineNotLive(
            f"This core does not protect {machine.name} "
            f"({machine.get_kind_display().lower()}), so it has no agent to contact."
        )


def _stream(
    machine: Machine, writer: PointWriter, report: Report, hold_seconds: int, watch_seconds: int
) -> SnapshotResult:
    """Have the agent stream its disks into the store."""
    with recording_connection(machine):
        parents = [ParentDisk(**asdict(disk)) for disk in writer.parent_disks()]
        return dial(machine).take_snapshot(
            writer, parents, at_each_slice(report), hold_seconds, watch_seconds
        )


def _note_whole_reads(report: Report, taken: SnapshotResult, *, is_watch_wanted: bool) -> None:
    """Report that whole disks had to be read, or will have to be."""
    if is_watch_wanted and not taken.is_watched:
        report.note("The agent cannot track further writes: the final point will read all disks.")
    if taken.why_whole:
        report.note(f"Whole disks were read while the machine was frozen: {taken.why_whole}.")


def remove_recovery_point(machine_id: UUID | str, point_id: UUID | str) -> None:
    """Remove a point from the store and from the index. Idempotent.

    Raises:
        PointInUse: other points build on it.
    """
    store = open_store()
    with suppress(PointMissing):
        store.delete_point(str(machine_id), str(point_id))
    RecoveryPoint.objects.filter(pk=point_id, machine_id=machine_id).delete()


def choose_parent(
    store: Store, machine: Machine, asked: PointKind
) -> tuple[KindChoice, str | None]:
    """Return the kind to take, and its parent: the newest fit point with a complete chain."""
    # Neither a damaged point nor one beside the main line can be a parent.
    unfit = machine.points.filter(Q(state=PointState.DAMAGED) | Q(is_carried_on=False))
    damaged = {str(point_id) for point_id in unfit.values_list("pk", flat=True)}
    indexed = [str(pk) for pk in machine.points.oldest_first().values_list("pk", flat=True)]
    candidates = [
        ParentCandidate(manifest.point_id, manifest.point_id in damaged)
        for manifest in oldest_first(store.points(str(machine.pk)), indexed)
    ]
    choice = choose_kind(asked, candidates)
    for parent_id in choice.parent_ids:
        try:
            store.chain(str(machine.pk), parent_id)
        except ChainBroken as error:
            logger.warning("parent not usable point_id=%s error=%s", parent_id, error)
            continue
        return choice, parent_id
    if choice.kind == PointKind.INCREMENTAL:
        choice = KindChoice(
            PointKind.BASE_IMAGE, (), "no earlier recovery point has a complete chain"
        )
    return choice, None
