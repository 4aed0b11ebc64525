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
from console.jobs.wake import send_wake_up

logger = logging.getLogger(__name__)

# A wake-up may be waiting in a long queue, so the wait before the next one grows each time.
FIRST_RESEND_SECONDS = 20
LONGEST_RESEND_SECONDS = 600


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
        if job.wake_at is not None and job.wake_at > now:
            continue
        if job.lease_until is not None and job.send_count == 0:
            wake_ups.append(WakeUp(job.id, "its worker was lost"))
        elif job.sent_at is None:
            wake_ups.append(WakeUp(job.id, "its wake-up could not be sent"))
        elif now >= max(job.sent_at, job.wake_at or job.sent_at) + _patience(job.send_count):
            wake_ups.append(WakeUp(job.id, "its wake-up was not answered"))
    return wake_ups


def _patience(send_count: int) -> datetime.timedelta:
    seconds = FIRST_RESEND_SECONDS * 2 ** min(max(send_count - 1, 0), 10)
    return datetime.timedelta(seconds=min(seconds, LONGEST_RESEND_SECONDS))


def rescue_stale_jobs() -> int:
    """Wake the jobs that have to be woken; return how many."""
    hold_if_restored()
    now = timezone.now()
    rows = Job.objects.runnable().values_list(
        "id", "lease_until", "wake_at", "sent_at", "send_count"
    )
    wake_ups = due_wake_ups((OpenJob(*row) for row in rows), now)
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
