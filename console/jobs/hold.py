"""Hold the open jobs of a database that was restored from a backup, and say what each would do.

A held job is open, so nothing else happens to its subject, but no worker takes it. A person
releases it, and it continues where the backup left it; or closes it, and nothing is touched.
"""

import logging

from django.db import transaction
from django.utils import timezone

from console.jobs import generation, plan
from console.jobs.choices import EventType
from console.jobs.errors import IllegalEvent, UnknownWorkflow
from console.jobs.journal import Journal
from console.jobs.models import Generation, Job

logger = logging.getLogger(__name__)


def hold_if_restored() -> bool:
    """Hold every open job if this core's database was restored; return whether it was.

    Atomic and idempotent: of several processes that find out together, one holds.
    """
    if not generation.is_restored():
        return False
    now = timezone.now()
    with transaction.atomic():
        list(Generation.objects.select_for_update())
        if not generation.is_restored():
            return True
        generation.catch_up()
        for job in Job.objects.select_for_update().runnable():
            try:
                Journal(job.id, job.workflow).add(EventType.HELD, "", now)
            except (IllegalEvent, UnknownWorkflow) as error:
                logger.warning("job not held job=%s error=%s", job.id, error)
                continue
            Job.objects.filter(id=job.id).update(lease_owner="", lease_until=None, wake_at=None)
            logger.warning("job held job=%s kind=%s subject=%s", job.id, job.kind, job.subject_id)
    return True


def move_of_held(job: Job) -> str:
    """Say what a held job would do first if it were released, and what after that."""
    history = Journal(job.id, job.workflow).history
    move = plan.move_of_released(history)
    if isinstance(move, plan.Finish):
        return "Released, it would end at once."
    if isinstance(move, plan.Undo):
        undone = [
            step.step.title
            for step in reversed(history.steps.values())
            if step.has_undo and step.state in plan.TO_UNDO
        ]
        return f"Released, it would undo, one after the other: {_quoted(undone)}."
    names = list(history.steps)
    rest = [history.steps[name].step.title for name in names[names.index(move.step.name) :]]
    return (
        f"Released, it would run, one after the other: {_quoted(rest)}. If one of them fails, it "
        "would undo what it had done when the backup was made."
    )


def _quoted(titles: list[str]) -> str:
    return ", ".join(f"“{title}”" for title in titles)
