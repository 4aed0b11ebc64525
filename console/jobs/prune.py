"""Delete old jobs; otherwise a snapshot a minute would fill the database.

Only finished jobs are deleted. Jobs that need attention stay. Jobs that failed, or were started
together as in a failover, stay for a year: people come back to those.
"""

import datetime
import logging

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from console.jobs.choices import JobState
from console.jobs.models import Job

logger = logging.getLogger(__name__)

_LONGEST_DAYS = 365
# Deleted in small batches, so that no other writer waits for long.
_LOT = 200
_LOTS_PER_RUN = 50


def prune_jobs(now: datetime.datetime | None = None) -> int:
    """Delete jobs that are old enough; return how many. The next run deletes what is left."""
    now = now or timezone.now()
    routine_before = now - datetime.timedelta(days=settings.UNDERSTUDY_JOB_DAYS)
    all_before = now - datetime.timedelta(days=_LONGEST_DAYS)
    routine = Q(state=JobState.SUCCEEDED, group_id__isnull=True, finished_at__lt=routine_before)
    ended = Q(state__in=(JobState.SUCCEEDED, JobState.FAILED), finished_at__lt=all_before)
    count = 0
    for _ in range(_LOTS_PER_RUN):
        lot = list(Job.objects.filter(routine | ended).values_list("id", flat=True)[:_LOT])
        Job.objects.filter(id__in=lot).delete()
        count += len(lot)
        if len(lot) < _LOT:
            break
    if count:
        logger.info("jobs pruned count=%s", count)
    return count
