"""Start the snapshots and proofs that are due. May run at any time, twice, or late."""

import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef
from django.utils import timezone

from console.jobs.acts import start_job
from console.jobs.choices import OPEN
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from protected_machines.choices import PointKind, PointState
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points import policy
from protected_machines.points.proofs import prove_lately
from protected_machines.points.workflow import SnapshotParams
from recovery_store.errors import StoreError

logger = logging.getLogger(__name__)

# No new proof is begun after this time.
PROVE_SECONDS_PER_RUN = 60
POINTS_READ = 2000
KEEP_ALIVE_SECONDS = 10


def start_due_snapshots(now: datetime | None = None) -> list[UUID]:
    """Start a snapshot job for every machine whose snapshot is due; return those machines."""
    now = now or timezone.now()
    started = []
    for machine_id in policy.due_machines(_schedule_facts(), now):
        machine = Machine.objects.get(pk=machine_id)
        kind = PointKind.INCREMENTAL if machine.points.exists() else PointKind.BASE_IMAGE
        Machine.objects.filter(pk=machine_id).update(snapshot_tried_at=now)
        try:
            start_job("snapshot", machine.pk, machine.name, SnapshotParams(kind=kind))
        except JobConflict as error:
            logger.info("snapshot not started machine_id=%s reason=%s", machine_id, error)
            continue
        started.append(machine_id)
    return started


def _schedule_facts() -> list[policy.ScheduleFacts]:
    open_jobs = Job.objects.filter(subject_id=OuterRef("pk"), is_exclusive=True, state__in=OPEN)
    # The model's type does not have the two annotations.
    machines: Iterable[Any] = (
        Machine.objects.live()
        .filter(is_paused=False)
        .with_newest_point_at()
        .annotate(has_open_job=Exists(open_jobs))
        .defer("agent_certificate_pem", "description")
    )
    return [
        policy.ScheduleFacts(
            machine_id=machine.pk,
            is_paused=machine.is_paused,
            has_open_job=machine.has_open_job,
            interval_seconds=machine.snapshot_interval_seconds,
            newest_point_at=machine.newest_point_at,
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

    proven = []
    for point_id, machine_id in _newest_unproven():
        if time.monotonic() - started > PROVE_SECONDS_PER_RUN:
            break
        try:
            prove_lately(machine_id, point_id, on_progress)
        except StoreError as error:
            # A damaged point has been marked; a missing one is left to `reindex_store`.
            logger.warning("prove point_id=%s error_code=%s error=%s", point_id, error.code, error)
            continue
        proven.append(point_id)
    return proven


def _newest_unproven() -> list[tuple[UUID, UUID]]:
    """Return the newest unproven point of each machine that has one, newest first."""
    newest: dict[UUID, UUID] = {}
    unproven = RecoveryPoint.objects.filter(state=PointState.UNPROVEN).order_by("-taken_at")
    for point_id, machine_id in unproven.values_list("pk", "machine_id")[:POINTS_READ]:
        newest.setdefault(machine_id, point_id)
    return [(point_id, machine_id) for machine_id, point_id in newest.items()]
