"""Send wake-ups through Celery. A lost one costs time, never work: the rescuer sends it again."""

import logging
from uuid import UUID

from celery import current_app
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

from console.jobs.models import Job
from console.jobs.workflow import Workflow, find_workflow

logger = logging.getLogger(__name__)

# How long one delivery works before it makes way for another job.
SLICE_SECONDS = 240
# Longer waits are left to the rescuer, so that they do not sit in a worker's memory.
LONGEST_COUNTDOWN_SECONDS = 60
_UNKNOWN_STEP_LIMIT_SECONDS = 3600
_BROKER_ANSWER_SECONDS = 2


def longest_delivery_seconds(workflow: Workflow | None) -> int:
    """Return how long one delivery may take: a slice, and a last step that starts at its end."""
    longest = max(
        (step.limit_seconds for step in workflow.steps) if workflow else (),
        default=_UNKNOWN_STEP_LIMIT_SECONDS,
    )
    return int(SLICE_SECONDS + longest)


def send_wake_up(job: Job, delay_seconds: float = 0) -> bool:
    """Tell a worker about a job; return False if the broker cannot be reached."""
    limit_seconds = longest_delivery_seconds(find_workflow(job.kind, job.plan_version))
    # A separate connection: one left hanging by the broker would hang the next page too.
    options = {"socket_timeout": _BROKER_ANSWER_SECONDS}
    try:
        with current_app.connection_for_write(transport_options=options) as connection:
            current_app.send_task(
                "jobs.run_job",
                args=[str(job.id)],
                queue=job.queue,
                countdown=delay_seconds or None,
                soft_time_limit=limit_seconds + 60,
                time_limit=limit_seconds + 120,
                retry=False,
                connection=connection,
            )
    except (OperationalError, OSError) as error:
        logger.warning("wake-up not sent job=%s queue=%s error=%s", job.id, job.queue, error)
        _forget_sending(job.id)
        return False
    return True


def wake_on_commit(job: Job, delay_seconds: float = 0) -> None:
    """Send the wake-up once the worker can see the rows."""
    transaction.on_commit(lambda: send_wake_up(job, delay_seconds), robust=True)


def _forget_sending(job_id: UUID) -> None:
    """Have the rescuer send right away when the broker is back."""
    Job.objects.filter(id=job_id).update(sent_at=None)


def lease_seconds() -> float:
    """How long a worker is presumed alive after its last sign of life."""
    return float(settings.UNDERSTUDY_JOB_LEASE_SECONDS)
