"""Gather the facts behind a failback's quote from the store, past jobs and the database."""

import datetime
import itertools
from collections.abc import Collection
from statistics import median
from typing import Any
from uuid import UUID

from django.db.models import F

from console.jobs.choices import StepState
from console.jobs.models import Job, JobStep
from protected_machines.choices import PointKind
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points.store import open_store
from recovery_store.errors import StoreError
from replication.failback.quote import PastPoint, QuoteFacts

_PAST_POINTS = 8
_PAST_STEPS = 5


def quote_facts(
    machine: Machine, source_point_ids: Collection[UUID], now: datetime.datetime
) -> QuoteFacts | None:
    """Return the facts about one machine; none if it has no usable point.

    source_point_ids: the points of the machine that the source core holds.
    """
    points = list(machine.points.carried_on().usable().newest_first())
    if not points:
        return None
    newest = points[0]
    missing = [point for point in points if point.pk not in source_point_ids]
    held = {str(point_id) for point_id in source_point_ids}
    store = open_store()
    common = store.common_point(str(machine.pk), held, str(newest.pk)) if held else None
    return QuoteFacts(
        missing_bytes=sum(point.stored_bytes for point in missing),
        missing_points=len(missing),
        has_common_point=common is not None,
        restore_bytes=restore_bytes_of(machine, newest),
        capacity_bytes=sum(disk.capacity_bytes for disk in machine.disks),
        newest_age_seconds=(now - newest.taken_at).total_seconds(),
        is_taking_point=Job.objects.open().filter(kind="snapshot", subject_id=machine.pk).exists(),
        can_watch=machine.described.can_watch,
        past_points=_past_points(points),
        send_bps=_rate_of("failback", "send_points"),
        restore_bps=_rate_of("failback", "restore_disks"),
        snapshot_seconds=_seconds_of(machine, ("take_point", "force_snapshot_2")),
        boot_seconds=_seconds_of(machine, ("boot_machine", "wait_for_agent")),
    )


def restore_bytes_of(machine: Machine, point: RecoveryPoint) -> int:
    """Return how many bytes a restore of the point writes to blank disks."""
    store = open_store()
    try:
        manifest = store.get_point(str(machine.pk), str(point.pk))
        total_bytes = 0
        for disk in manifest.disks:
            with store.plan_restore(str(machine.pk), str(point.pk), disk.number) as plan:
                total_bytes += plan.data_bytes
    except StoreError:
        return 0
    return total_bytes


def _past_points(points: list[RecoveryPoint]) -> list[PastPoint]:
    """Return the newest incrementals, each with the time since the point before it."""
    found: list[PastPoint] = []
    for point, before in itertools.pairwise(points):
        if point.kind == PointKind.INCREMENTAL and len(found) < _PAST_POINTS:
            seconds = (point.taken_at - before.taken_at).total_seconds()
            found.append(PastPoint(point.stored_bytes, seconds))
    return found


def _rate_of(kind: str, step_name: str) -> float | None:
    steps = JobStep.objects.filter(
        job__kind=kind, name=step_name, state=StepState.SUCCEEDED, done_bytes__gt=0
    )
    rates = [
        step.done_bytes / step.seconds
        for step in steps.order_by("-finished_at")[:_PAST_STEPS]
        if step.seconds
    ]
    return median(rates) if rates else None


def _seconds_of(machine: Machine, step_names: tuple[str, ...]) -> float | None:
    steps: Any = JobStep.objects.filter(
        job__subject_id=machine.pk, name__in=step_names, state=StepState.SUCCEEDED
    )
    lasted = [
        step.seconds
        for step in steps.order_by(F("finished_at").desc())[:_PAST_STEPS]
        if step.seconds
    ]
    return median(lasted) if lasted else None
