"""How jobs and steps are told to people: words, tones, times left. Pure: rows in, words out."""

import datetime
from typing import TYPE_CHECKING

from console.jobs.choices import JobState, StepState, UndoKind

if TYPE_CHECKING:
    from console.jobs.models import Job, JobStep

# After this long without new figures a rate says nothing about now.
STALE_RATE_SECONDS = 15

_JOB_TONES = {
    JobState.QUEUED: "busy",
    JobState.RUNNING: "busy",
    JobState.UNWINDING: "warn",
    JobState.SUCCEEDED: "ok",
    JobState.FAILED: "bad",
    JobState.NEEDS_ATTENTION: "bad",
}
# Class of the step, and icon of the sprite.
_STEP_TONES = {
    StepState.PENDING: ("is-waiting", "state-waiting"),
    StepState.RUNNING: ("is-busy", "state-busy"),
    StepState.WAITING: ("is-busy", "state-busy"),
    StepState.INTERRUPTED: ("is-warn", "state-warn"),
    StepState.SUCCEEDED: ("is-ok", "state-ok"),
    StepState.FAILED: ("is-bad", "state-bad"),
    StepState.UNDOING: ("is-busy", "state-busy"),
    StepState.UNDONE: ("is-off", "state-off"),
    StepState.UNDO_FAILED: ("is-bad", "state-bad"),
}


def job_tone(job: "Job") -> str:
    """Return ok, warn, bad, off or busy."""
    return "off" if job.is_cancelled else _JOB_TONES[JobState(job.state)]


def job_state_text(job: "Job") -> str:
    """Return the state in a word or two."""
    if job.is_cancelled:
        return "Cancelled"
    if job.is_open and job.is_cancel_requested and job.state != JobState.UNWINDING:
        return "Cancelling"
    return str(JobState(job.state).label)


def job_progress_text(job: "Job") -> str:
    """Return where the job stands: `Step 3 of 9: Export to the VM`. Needs the steps."""
    steps = list(job.steps.all())
    for step in steps:
        if step.name == job.current_step:
            return f"Step {step.position} of {len(steps)}: {step.title}"
    return ""


def job_reason_text(job: "Job") -> str:
    """Return why the job waits, failed or is in trouble; empty where all is well."""
    if job.is_finished:
        return job.error_text
    for step in job.steps.all():
        if step.name == job.current_step:
            return step.error_text or step.note
    return ""


def job_advice(job: "Job") -> str:
    """Return what to do now; empty where there is nothing to do. Needs the steps."""
    if job.state == JobState.FAILED and not job.is_cancelled:
        return (
            "Everything this job had done is rolled back. "
            "See to the cause, then Retry starts it anew."
        )
    if job.state != JobState.NEEDS_ATTENTION:
        return ""
    for step in job.steps.all():
        if step.state == StepState.UNDO_FAILED:
            return (
                f"Rolling back stopped at “{step.title}”. See to the cause, then Retry goes on "
                "rolling back. If you have put it right by hand, close the job."
            )
        if step.state == StepState.INTERRUPTED:
            return (
                f"The worker was lost again and again during “{step.title}”. Look at the worker's "
                "log and memory, then Retry goes on from this step."
            )
    return (
        "The job is past its point of no return, so it was not rolled back. See to the cause, "
        "then Retry goes on from the failed step."
    )


def job_left_over(job: "Job") -> "list[JobStep]":
    """Return the steps whose effect is there while the job needs attention."""
    if job.state != JobState.NEEDS_ATTENTION:
        return []
    gone = (StepState.PENDING, StepState.FAILED, StepState.UNDONE)
    return [
        step
        for step in job.steps.all()
        if step.state not in gone and step.undo_kind != UndoKind.NOTHING
    ]


def job_rate_bps(job: "Job", now: datetime.datetime) -> int | None:
    """Return the rate of late, or None where it would not be true of now."""
    if not job.is_open or job.rate_bps is None or job.progress_at is None:
        return None
    is_stale = now - job.progress_at > datetime.timedelta(seconds=STALE_RATE_SECONDS)
    return None if is_stale else job.rate_bps


def job_seconds_left(job: "Job", now: datetime.datetime) -> float | None:
    """Return how long the running step still takes at the rate of late."""
    rate_bps = job_rate_bps(job, now)
    if not rate_bps or job.total_bytes is None:
        return None
    return max(0, job.total_bytes - job.done_bytes) / rate_bps


def step_tone(step: "JobStep") -> tuple[str, str]:
    """Return the step's class and icon."""
    return _STEP_TONES[StepState(step.state)]
