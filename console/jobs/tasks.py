"""The Celery tasks of jobs. They only call plain functions."""

# Celery ships no types.
# mypy: disable-error-code="untyped-decorator"

from uuid import UUID

from celery import shared_task

from console.jobs import engine, prune, rescue
from console.steady import look_at_clock


@shared_task(name="jobs.run_job", ignore_result=True)
def run_job(job_id: str) -> None:
    """Let this worker do what a job has to do now."""
    engine.run_job(UUID(job_id))


@shared_task(name="jobs.rescue_stale_jobs", ignore_result=True, soft_time_limit=60, time_limit=90)
def rescue_stale_jobs() -> None:
    """Wake the jobs whose worker or wake-up call was lost."""
    rescue.rescue_stale_jobs()


@shared_task(name="jobs.prune_jobs", ignore_result=True, soft_time_limit=240, time_limit=300)
def prune_jobs() -> None:
    """Delete old jobs."""
    if look_at_clock().is_steady:
        prune.prune_jobs()
