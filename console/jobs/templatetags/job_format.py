"""How pages show jobs and steps: texts, tones, time left. Pure: rows in, texts out.

All but the rate need the job's steps, prefetched.
"""

import datetime
from collections.abc import Mapping
from typing import Any

from django import template
from django.contrib.auth.models import AnonymousUser
from django.template import Context
from django.utils import timezone

from console.accounts.access import refusal_for
from console.jobs import panels
from console.jobs.access import job_rule
from console.jobs.choices import JobState, StepState, UndoKind
from console.jobs.models import Job, JobStep

register = template.Library()

# After this long without new figures, a rate is out of date.
STALE_RATE_SECONDS = 15

_JOB_TONES = {
    JobState.QUEUED: "busy",
    JobState.RUNNING: "busy",
    JobState.UNWINDING: "warn",
    JobState.SUCCEEDED: "ok",
    JobState.FAILED: "bad",
    JobState.NEEDS_ATTENTION: "bad",
    JobState.HELD: "bad",
}
# Style class of the step, and icon in the sprite.
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


@register.filter
def job_tone(job: Job) -> str:
    """Return ok, warn, bad, off or busy."""
    return "off" if job.is_cancelled else _JOB_TONES[JobState(job.state)]


@register.filter
def job_state_text(job: Job) -> str:
    """Return the state in a word or two."""
    if job.is_cancelled:
        return "Cancelled"
    if job.is_open and job.is_cancel_requested and job.state != JobState.UNWINDING:
        return "Cancelling"
    return str(JobState(job.state).label)


@register.filter
def job_progress_text(job: Job) -> str:
    """Return the current step: `Step 3 of 9: Export to the VM`."""
    steps = list(job.steps.all())
    for step in steps:
        if step.name == job.current_step:
            return f"Step {step.position} of {len(steps)}: {step.title}"
    return ""


@register.filter
def job_reason_text(job: Job) -> str:
    """Return why the job waits, failed or needs attention; empty if all is well."""
    if job.is_finished:
        return job.error_text
    for step in job.steps.all():
        if step.name == job.current_step:
            return step.error_text or step.note
    return ""


@register.filter
def job_advice(job: Job) -> str:
    """Return what to do now; empty if there is nothing to do."""
    if job.state == JobState.FAILED and not job.is_cancelled:
        return "Everything this job did has been undone. Fix the cause, then choose Retry."
    if job.state != JobState.NEEDS_ATTENTION:
        return ""
    for step in job.steps.all():
        if step.state == StepState.UNDO_FAILED:
            return (
                f"“{step.title}” could not be undone. Fix the cause, then choose Retry to continue "
                "undoing. If you have put it right by hand, close the job."
            )
        if step.state == StepState.INTERRUPTED:
            return (
                f"The worker was lost repeatedly during “{step.title}”. Check the worker's log and "
                "memory, then choose Retry to continue from this step."
            )
    return (
        "The job is past its point of no return, so it was not undone. Fix the cause, then choose "
        "Retry to continue from the failed step."
    )


@register.filter
def job_left_over(job: Job) -> list[JobStep]:
    """Return the steps whose effect remains while the job needs attention."""
    if job.state != JobState.NEEDS_ATTENTION:
        return []
    gone = (StepState.PENDING, StepState.FAILED, StepState.UNDONE)
    return [
        step
        for step in job.steps.all()
        if step.state not in gone and step.undo_kind != UndoKind.NOTHING
    ]


@register.filter
def job_rate_bps(job: Job) -> int | None:
    """Return the recent rate; None if it is out of date."""
    if not job.is_open or job.rate_bps is None or job.progress_at is None:
        return None
    silence = abs(timezone.now() - job.progress_at)
    return None if silence > datetime.timedelta(seconds=STALE_RATE_SECONDS) else job.rate_bps


@register.filter
def job_seconds_left(job: Job) -> float | None:
    """Return how much longer the running step takes at its recent rate."""
    rate_bps = job_rate_bps(job)
    if not rate_bps or job.total_bytes is None:
        return None
    return max(0, job.total_bytes - job.done_bytes) / rate_bps


@register.filter
def step_class(step: JobStep) -> str:
    """Return the style class of a step."""
    return _STEP_TONES[StepState(step.state)][0]


@register.filter
def step_icon(step: JobStep) -> str:
    """Return the icon of a step."""
    return _STEP_TONES[StepState(step.state)][1]


@register.filter
def panels_at(job: Job, step: JobStep) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the templates that other rooms show at a step under way, with their values."""
    return panels.panels_at(job, step) if job.is_open else []


@register.simple_tag(takes_context=True)
def refused_on(context: Context, job: Job, act: str) -> str:
    """Return why the role of the user does not allow the act on jobs of this kind."""
    user = getattr(getattr(context, "request", None), "user", None) or AnonymousUser()
    return refusal_for(user, job_rule(job.kind).of(act))
