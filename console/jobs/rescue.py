"""Wake jobs that nobody else will wake: their worker died, or their wake-up was lost.

A reconciler: it reads every open job that is not held, decides with a pure function and sends. It
may run at any time, twice, or late. A lease protects the work itself, so an extra wake-up does no
harm.
"""

import dataclasses
import datetime
import logging
from collections.abc import Iterable
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from console.isolation import isolate_each
from console.jobs.hold import hold_if_restored
from console.jobs.models import Job
from console.jobs.plan import LONGEST_WAIT_SECONDS, is_waited_for
from console.jobs.wake import lease_seconds, send_wake_up

logger = logging.getLogger(__name__)

# A wake-up may be waiting in a long queue, so the wait before the next one grows each time.
FIRST_RESEND_SECONDS = 20
LONGEST_RESEND_SECONDS = 600
# How far the clocks of workers on several hosts may differ.
_HOSTS_DIFFER_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class OpenJob:
    """What the decision needs to know about an open job."""

    id: UUID
    lease_until: datetime.datetime | None
    wake_at: datetime.datetime | None
    sent_at: datetime.datetime | None
    send_count: int


@dataclasses.dataclass(frozen=True)
class WakeUp:
    """A job to wake, and why."""

    job_id: UUID
    reason: str


def due_wake_ups(jobs: Iterable[OpenJob], now: datetime.datetime) -> list[WakeUp]:
    """Return which open jobs have to be woken."""
    wake_ups = []
    for job in jobs:
        if job.lease_until is not None and job.lease_until >= now:
            continue
        if is_waited_for(job.wake_at, now):
            continue
        if job.lease_until is not None and job.send_count == 0:
            wake_ups.append(WakeUp(job.id, "its worker was lost"))
        elif job.sent_at is None:
            wake_ups.append(WakeUp(job.id, "its wake-up could not be sent"))
        elif not _is_patient(max(job.sent_at, job.wake_at or job.sent_at), job.send_count, now):
            wake_ups.append(WakeUp(job.id, "its wake-up was not answered"))
    return wake_ups


def _is_patient(sent_at: datetime.datetime, send_count: int, now: datetime.datetime) -> bool:
    """Whether an answer to the last wake-up may still come."""
    seconds = FIRST_RESEND_SECONDS * 2 ** min(max(send_count - 1, 0), 10)
    patience = datetime.timedelta(seconds=min(seconds, LONGEST_RESEND_SECONDS))
    return -datetime.timedelta(seconds=LONGEST_WAIT_SECONDS) < now - sent_at < patience


def doubtful_leases(
    jobs: Iterable[OpenJob], now: datetime.datetime, lease_seconds: float
) -> list[OpenJob]:
    """Return the jobs whose leases say nothing, since the clock may have been set.

    One that ends later than any worker could have asked for, or ended long before anyone looked: a
    worker that lives renews it within a quarter of a lease.
    """
    lease = datetime.timedelta(seconds=lease_seconds)
    longest = lease + datetime.timedelta(seconds=_HOSTS_DIFFER_SECONDS)
    return [
        job
        for job in jobs
        if job.lease_until is not None
        and (
            job.lease_until > now + longest
            or (job.send_count == 0 and job.lease_until < now - lease)
        )
    ]


def rescue_stale_jobs() -> int:
    """Wake the jobs that have to be woken; return how many."""
    hold_if_restored()
    now = timezone.now()
    rows = Job.objects.runnable().values_list(
        "id", "lease_until", "wake_at", "sent_at", "send_count"
    )
    jobs = {row[0]: OpenJob(*row) for row in rows}
    for job in doubtful_leases(jobs.values(), now, lease_seconds()):
        assert job.lease_until is not None
        Job.objects.doubt_lease(job.id, job.lease_until, now, lease_seconds())
        logger.info("lease doubted job=%s until=%s", job.id, job.lease_until)
        del jobs[job.id]
    wake_ups = due_wake_ups(jobs.values(), now)
    is_broker_there = True

    def wake(wake_up: WakeUp) -> None:
        nonlocal is_broker_there
        if not is_broker_there:
            return
        job = Job.objects.get(id=wake_up.job_id)
        # Before sending, so that it cannot overwrite what a quick worker writes.
        Job.objects.filter(id=job.id).update(sent_at=now, send_count=F("send_count") + 1)
        logger.info("job woken job=%s kind=%s because=%s", job.id, job.kind, wake_up.reason)
        is_broker_there = send_wake_up(job)

    isolate_each(wake_ups, wake, "rescue_stale_jobs")
    return len(wake_ups)
