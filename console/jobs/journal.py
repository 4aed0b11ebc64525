"""Write a job's log: each event and its projection on the job and its steps, in one transaction.

The only writer of `JobEvent`. A worker gives its name, and a write without the lease is refused, so
a worker that was presumed dead cannot interfere with its successor.
"""

import datetime
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction

from console.jobs import generation, plan
from console.jobs.audited import record_event
from console.jobs.choices import TERMINAL, EventType
from console.jobs.doors import doors
from console.jobs.errors import JobError, LeaseLost
from console.jobs.models import Job, JobEvent, JobStep
from console.jobs.workflow import Workflow

_TEXT_LIMIT = 4000


class LogMoved(JobError):
    """Someone else has added an event since the log was read; read it, and decide again."""

    code = "JOBS-LOG-MOVED"


class Journal:
    """The log of one job, as read so far; also adds events to it."""

    def __init__(self, job_id: UUID, workflow: Workflow, owner: str | None = None) -> None:
        self.job_id = job_id
        self.workflow = workflow
        self.owner = owner
        self.history = plan.new_history(workflow)
        self.read()

    def read(self) -> plan.History:
        """Read the events after the last known one."""
        for event in events_of(self.job_id, after_number=self.history.last_number):
            plan.apply_event(self.history, event)
        return self.history

    def add(
        self,
        event_type: EventType,
        step: str,
        now: datetime.datetime,
        payload: Mapping[str, Any] | None = None,
        *,
        must_be_next: bool = False,
    ) -> None:
        """Add an event.

        must_be_next: only if nothing has been added since the log was read.

        Raises:
            IllegalEvent: the log does not allow it.
            LeaseLost: another worker holds the job.
            LogMoved: something has been added since the log was read.
        DatabaseRestored: the database is older than the world.
        """
        doors.before_event(event_type, step)
        try:
            with transaction.atomic():
                self._add(event_type, step, now, payload or {}, must_be_next)
        except Exception:
            # Whether the event is in the log, only the log knows.
            self.history = plan.new_history(self.workflow)
            raise
        doors.after_event(event_type, step)

    def _add(
        self,
        event_type: EventType,
        step: str,
        now: datetime.datetime,
        payload: Mapping[str, Any],
        must_be_next: bool,
    ) -> None:
        generation.advance()
        job = Job.objects.select_for_update().get(id=self.job_id)
        if self.owner is not None and job.lease_owner != self.owner:
            raise LeaseLost(f"job {self.job_id} is held by {job.lease_owner or 'nobody'}")
        if must_be_next and job.last_event_number != self.history.last_number:
            raise LogMoved(f"job {self.job_id} has event {job.last_event_number}")
        history = self.read()
        number = history.last_number + 1
        event = plan.Event(number, event_type, step, _limited(payload), now)
        plan.apply_event(history, event)
        JobEvent.objects.create(
            job_id=self.job_id,
            number=number,
            step=step,
            type=event_type,
            payload=event.payload,
            at=now,
        )
        has_progress = event_type in plan.PROGRESS_EVENTS
        state_before = job.state
        project_job(job, history, has_progress)
        job.save(update_fields=[*JOB_PROJECTION, "revision"])
        if step:
            columns = step_columns(history.steps[step], has_progress)
            JobStep.objects.filter(job_id=self.job_id, name=step).update(**columns)
        record_event(job, event_type, state_before)


def events_of(job_id: UUID, after_number: int = 0) -> list[plan.Event]:
    rows = JobEvent.objects.filter(job_id=job_id, number__gt=after_number).order_by("number")
    return [
        plan.Event(row.number, EventType(row.type), row.step, row.payload, row.at) for row in rows
    ]


JOB_PROJECTION = (
    "state",
    "current_step",
    "is_cancel_requested",
    "is_past_return",
    "error_code",
    "error_text",
    "started_at",
    "finished_at",
    "last_event_number",
    "done_bytes",
    "total_bytes",
    "rate_bps",
    "progress_at",
)


def project_job(job: Job, history: plan.History, has_progress: bool = True) -> None:
    """Set the columns derived from the events; the live figures only with `has_progress`."""
    current = plan.current_step(history)
    job.state = plan.state_of(history)
    if has_progress:
        job.done_bytes = current.done_bytes if current else 0
        job.total_bytes = current.total_bytes if current else None
        job.rate_bps = job.progress_at = None
    job.current_step = current.step.name if current else ""
    job.is_cancel_requested = history.is_cancel_requested
    job.is_past_return = history.is_past_return
    job.error_code = history.error_code
    job.error_text = history.error_text
    job.started_at = history.started_at
    job.finished_at = history.last_at if job.state in TERMINAL else None
    job.last_event_number = history.last_number
    job.revision += 1


STEP_PROJECTION = (
    "state",
    "attempt",
    "undo_attempt",
    "started_at",
    "finished_at",
    "note",
    "error_code",
    "error_text",
    "output",
)


def step_columns(step: plan.StepHistory, has_progress: bool = True) -> dict[str, Any]:
    """Return the columns of a step's row that are derived from the events."""
    live = ("done_bytes", "total_bytes") if has_progress else ()
    return {name: getattr(step, name) for name in (*STEP_PROJECTION, *live)}


def _limited(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload with its text shortened to what a page can show."""
    text = payload.get("text")
    if isinstance(text, str) and len(text) > _TEXT_LIMIT:
        return {**payload, "text": text[:_TEXT_LIMIT] + " …"}
    return dict(payload)
