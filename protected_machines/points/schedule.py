"""Start the snapshots and proofs that are due. May run at any time, twice, or late."""

import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Subquery
from django.utils import timezone

from console.isolation import isolate_each
from console.jobs.acts import start_job
from console.jobs.choices import OPEN
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from protected_machines.choices import PointKind, PointState
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points import policy
from protected_machines.points.proofs import prove_lately
from protected_machines.points.store import open_store
from protected_machines.points.workflow import SnapshotParams
from recovery_store.errors import StoreError

logger = logging.getLogger(__name__)

# No new proof is begun after this time.
PROVE_SECONDS_PER_RUN = 60
KEEP_ALIVE_SECONDS = 10
# A source core that was off for longer than this begins the point that it was sending again.
UNFINISHED_KEPT = timedelta(days=7)


def start_due_snapshots(now: datetime | None = None) -> list[UUID]:
    """Start a snapshot job for every machine whose snapshot is due; return those machines."""
    now = now or timezone.now()
    started: list[UUID] = []

    def start(machine_id: UUID) -> None:
        machine = Machine.objects.get(pk=machine_id)
        kind = PointKind.INCREMENTAL if machine.points.exists() else PointKind.BASE_IMAGE
        Machine.objects.filter(pk=machine_id).update(snapshot_tried_at=now)
        try:
            start_job("snapshot", machine.pk, machine.name, SnapshotParams(kind=kind))
        except JobConflict as error:
            logger.info("snapshot not started machine_id=%s reason=%s", machine_id, error)
            return
        started.append(machine_id)

    isolate_each(policy.due_machines(_schedule_facts(), now), start, "start_due_snapshots")
    return started


def _schedule_facts() -> list[policy.ScheduleFacts]:
    open_jobs = Job.objects.filter(subject_id=OuterRef("pk"), is_exclusive=True, state__in=OPEN)
    # The model's type does not have the two annotations.
    machines: Iterable[Any] = (
        Machine.objects.live()
        .undisputed()
        .filter(is_paused=False)
        .with_last_success()
        .annotate(has_open_job=Exists(open_jobs))
        .defer("agent_certificate_pem", "description")
    )
    return [
        policy.ScheduleFacts(
            machine_id=machine.pk,
            is_paused=machine.is_paused,
            has_open_job=machine.has_open_job,
            interval_seconds=machine.snapshot_interval_seconds,
            last_success_at=machine.last_success_at,
            tried_at=machine.snapshot_tried_at,
        )
        for machine in machines
    ]


def prove_points(keep_alive: Callable[[], object] | None = None) -> list[UUID]:
    """Prove the newest unproven point of each machine, until the time for this run is up.

    `keep_alive` is called every few seconds while a long point is read.
    """
    started = time.monotonic()
    told = started

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        nonlocal told
        if keep_alive is not None and time.monotonic() - told > KEEP_ALIVE_SECONDS:
            told = time.monotonic()
            keep_alive()

    proven: list[UUID] = []

    def prove(ids: tuple[UUID, UUID]) -> None:
        if time.monotonic() - started > PROVE_SECONDS_PER_RUN:
            return
        point_id, machine_id = ids
        try:
            prove_lately(machine_id, point_id, on_progress)
        except StoreError as error:
            # A damaged point has been marked; a missing one is left to `reindex_store`.
            logger.warning("prove point_id=%s error_code=%s error=%s", point_id, error.code, error)
            return
        proven.append(point_id)

    isolate_each(_newest_unproven(), prove, "prove_points")
    return proven


def expire_unfinished(now: datetime | None = None) -> list[Path]:
    """Remove points that are half here and to which nothing was added for a week."""
    before = (now or timezone.now()) - UNFINISHED_KEPT
    store = open_store()
    removed: list[Path] = []
    try:
        machine_ids = store.machine_ids()
    except StoreError as error:
        logger.warning("expire unfinished error_code=%s error=%s", error.code, error)
        return removed
    isolate_each(
        machine_ids,
        lambda machine_id: removed.extend(store.expire(machine_id, before)),
        "expire_unfinished",
    )
    for path in removed:
        logger.info("unfinished point expired path=%s", path)
    return removed


def _newest_unproven() -> list[tuple[UUID, UUID]]:
    """Return the newest unproven point of each machine that has one, latest arrival first."""
    unproven = RecoveryPoint.objects.filter(state=PointState.UNPROVEN, machine=OuterRef("pk"))
    newest = Machine.objects.annotate(point_id=Subquery(unproven.newest_first().values("pk")[:1]))
    found = RecoveryPoint.objects.filter(
        pk__in=newest.filter(point_id__isnull=False).order_by().values("point_id")
    )
    return list(found.order_by("-indexed_at", "pk").values_list("pk", "machine_id"))
