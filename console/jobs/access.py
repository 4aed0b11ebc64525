"""How views get a job: who may see it, and who may act on it."""

from uuid import UUID

from console.accounts.access import User, get_for, get_for_change
from console.jobs.models import Job, JobQuerySet


def jobs_for(user: User) -> JobQuerySet:
    """Return the jobs that a user may see, with their steps."""
    jobs = Job.objects.select_related("requested_by", "retry_of").prefetch_related("steps")
    return jobs if user.is_authenticated else jobs.none()


def get_job_for(user: User, job_id: UUID) -> Job:
    """Return a job to show, or answer 404."""
    return get_for(user, jobs_for(user), id=job_id)


def get_job_for_change(user: User, job_id: UUID) -> Job:
    """Return a job to act on: 404 if there is none, 403 for users who may only read."""
    return get_for_change(user, jobs_for(user), id=job_id)
