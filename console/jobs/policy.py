"""What can be done to a job now, and why not. Pure: rows in, reasons out.

Pages grey out their buttons for the same reasons for which the server refuses.
"""

import dataclasses

from console.jobs.choices import EventType, JobState, StepState, UndoKind
from console.jobs.models import Job


@dataclasses.dataclass(frozen=True)
class Act:
    """An act; `refusal` says why it is not possible, and is empty if it is."""

    refusal: str = ""

    @property
    def is_possible(self) -> bool:
        return not self.refusal


@dataclasses.dataclass(frozen=True)
class Acts:
    """All acts on a job."""

    cancel: Act
    retry: Act
    undo: Act
    close: Act
    release: Act

    def refusal_of(self, event_type: EventType) -> str:
        act = {
            EventType.CANCEL_REQUESTED: self.cancel,
            EventType.RETRY_REQUESTED: self.retry,
            EventType.UNDO_REQUESTED: self.undo,
            EventType.CLOSED: self.close,
            EventType.RELEASED: self.release,
        }[event_type]
        return act.refusal


def possible_acts(job: Job) -> Acts:
    """Return which acts are possible in the job's current state."""
    may_close = job.state in (JobState.NEEDS_ATTENTION, JobState.HELD)
    not_to_close = "Only a job that needs attention or is held can be closed."
    not_held = "Only a held job can be released."
    return Acts(
        cancel=Act(_cancel_refusal(job)),
        retry=Act(_retry_refusal(job)),
        undo=Act(_undo_refusal(job)),
        close=Act("" if may_close else not_to_close),
        release=Act("" if job.state == JobState.HELD else not_held),
    )


def _cancel_refusal(job: Job) -> str:
    if job.is_finished:
        return "The job has finished."
    if job.state == JobState.HELD:
        return "The job is held. Release or close it."
    if job.state == JobState.UNWINDING:
        return "The job is already being undone."
    if job.is_cancel_requested:
        return "The job is already being cancelled: the running step is being stopped."
    if job.is_past_return:
        return f"The job is past its point of no return: {_return_reason(job)}."
    return ""


def _retry_refusal(job: Job) -> str:
    if job.state == JobState.HELD:
        return "The job is held. Release or close it."
    if job.is_open:
        return "The job is still running."
    if job.state == JobState.SUCCEEDED:
        return "The job is done."
    return ""


def _undo_refusal(job: Job) -> str:
    if job.state != JobState.NEEDS_ATTENTION:
        return "Only a job that needs attention can be undone by hand."
    for step in job.steps.all():
        if step.undo_kind == UndoKind.IRREVERSIBLE and step.state == StepState.SUCCEEDED:
            return f"“{step.title}” cannot be undone: {step.undo_reason}."
        if step.state == StepState.INTERRUPTED:
            return f"“{step.title}” was cut off. Only a retry can tell how far it got."
        if step.state == StepState.UNDO_FAILED:
            return "The job is already being undone. Choose Retry to continue."
    return ""


def _return_reason(job: Job) -> str:
    for step in job.steps.all():
        if step.undo_kind == UndoKind.IRREVERSIBLE and step.state != StepState.PENDING:
            return step.undo_reason
    return "a step cannot be undone"
