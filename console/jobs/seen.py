"""What a page that polls has seen of jobs, so that it gets an answer only if they look different.

The time of a step that waits goes on, though nothing is saved meanwhile.
"""

import hashlib
from collections.abc import Iterable

from console.jobs.models import Job
from console.wording import duration_human


def shown_revision(jobs: Iterable[Job | None], *others: object) -> str:
    """Return a text that changes whenever a page shows these jobs differently.

    It needs their steps, prefetched. None stands for a job that was removed.
    others: what else the page shows that may change.
    """
    facts = [_looks_of(job) if job is not None else None for job in jobs]
    return hashlib.sha256(repr((facts, others)).encode()).hexdigest()[:16]


def _looks_of(job: Job) -> tuple[object, ...]:
    times = [job.seconds, *(step.seconds for step in job.steps.all() if step.is_active)]
    return (job.pk, job.revision, [duration_human(seconds) for seconds in times])
