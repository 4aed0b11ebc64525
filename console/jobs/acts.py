"""What people and programs do to jobs: start, cancel, retry, undo, close, release.

Each returns right away: it writes rows and wakes a worker. A refusal raises `JobConflict` with the
reason.
"""

import logging
from typing import Any
from uuid import UUID, uuid5

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import IntegrityError, transaction
from django.utils import timezone

from console.jobs import policy
from console.jobs.audited import record_start
from console.jobs.choices import EventType, JobState
from console.jobs.errors import IllegalEvent, JobConflict
from console.jobs.hold import hold_if_restored
from console.jobs.journal import Journal
from console.jobs.models import Job, JobStep
from console.jobs.params import params_from_json, params_to_json
from console.jobs.wake import wake_on_commit
from console.jobs.workflow import Workflow, newest_workflow

logger = logging.getLogger(__name__)

User = AbstractBaseUser | AnonymousUser | None


def start_job(
    kind: str,
    subject_id: UUID,
    subject_name: str,
    params: Any,
    requested_by: User = None,
    request_id: UUID | None = None,
    group_id: UUID | None = None,
    *,
    reason: str = "",
    retry_of: Job | None = None,
) -> Job:
    """Create a job, and wake a worker for it once the transaction is committed.

    A second call with the same `request_id` returns the job of the first. Works while the
    broker is down: the job stays queued and starts when the broker is back.

    Raises:
        JobConflict: another exclusive job of the subject is open.
        UnknownWorkflow: there is no such kind.
    """
    workflow = newest_workflow(kind)
    if not isinstance(params, workflow.params):
        raise TypeError(f"{kind} needs {workflow.params.__name__}, got {type(params).__name__}")
    hold_if_restored()
    known = _find_request(request_id)
    if known is not None:
        return known
    job = Job(
        kind=kind,
        plan_version=workflow.version,
        title=workflow.title,
        queue=workflow.queue,
        is_exclusive=workflow.is_exclusive,
        subject_id=subject_id,
        subject_name=subject_name,
        group_id=group_id,
        params=params_to_json(params),
        request_id=request_id,
        reason=reason,
        requested_by=_person(requested_by),
        retry_of=retry_of,
        sent_at=timezone.now(),
        send_count=1,
    )
    try:
        with transaction.atomic():
            job.save(force_insert=True)
            JobStep.objects.bulk_create(_step_rows(job, workflow))
            record_start(job)
            wake_on_commit(job)
    except IntegrityError:
        known = _find_request(request_id)
        if known is not None:
            return known
        raise _conflict_of(job) from None
    logger.info("job queued job=%s kind=%s subject=%s", job.id, kind, subject_id)
    return job


def cancel_job(job: Job, user: User) -> None:
    """Ask a job to stop and to undo what it did.

    Raises:
        JobConflict: it has finished, is being undone, or is past its point of no return.
    """
    _request(job, user, EventType.CANCEL_REQUESTED)


def retry_job(job: Job, user: User) -> Job:
    """Retry a failed job as a new job; continue one that needs attention where it stopped.

    Raises:
        JobConflict: it neither failed nor needs attention, or its subject is busy.
    """
    refusal = policy.possible_acts(job).retry.refusal
    if refusal:
        raise JobConflict(refusal, job)
    if job.state == JobState.NEEDS_ATTENTION:
        _request(job, user, EventType.RETRY_REQUESTED)
        return job
    workflow = newest_workflow(job.kind)
    return start_job(
        job.kind,
        job.subject_id,
        job.subject_name,
        params_from_json(workflow.params, job.params),
        requested_by=user,
        # A double click or a second administrator gets the same retry.
        request_id=uuid5(job.id, "retry"),
        group_id=job.group_id,
        reason=job.reason,
        retry_of=job,
    )


def undo_job(job: Job, user: User) -> None:
    """Undo a job that needs attention, instead of continuing it.

    Raises:
        JobConflict: it does not need attention, or something it did cannot be undone.
    """
    _request(job, user, EventType.UNDO_REQUESTED)


def close_job(job: Job, user: User) -> None:
    """Close a job that needs attention or is held: someone has dealt with what it left.

    Raises:
        JobConflict: it neither needs attention nor is held.
    """
    _request(job, user, EventType.CLOSED)


def release_job(job: Job, user: User) -> None:
    """Let a held job continue where the restored backup left it.

    Raises:
        JobConflict: it is not held.
    """
    _request(job, user, EventType.RELEASED)


def _request(job: Job, user: User, event_type: EventType) -> None:
    """Add a user's request to the log, if the log allows it."""
    by = user.get_username() if user is not None else "the system"
    now = timezone.now()
    hold_if_restored()
    job.refresh_from_db()
    refusal = policy.possible_acts(job).refusal_of(event_type)
    if refusal:
        raise JobConflict(refusal, job)
    try:
        with transaction.atomic():
            Journal(job.id, job.workflow).add(event_type, "", now, {"by": by})
            Job.objects.filter(id=job.id).update(wake_at=None, sent_at=now, send_count=1)
            wake_on_commit(job)
    except IntegrityError:
        raise _conflict_of(job) from None
    except IllegalEvent:
        # The job moved on in the meantime; its new state gives the reason.
        job.refresh_from_db()
        reason = policy.possible_acts(job).refusal_of(event_type)
        raise JobConflict(reason or "The job has just moved on. Reload the page.", job) from None
    job.refresh_from_db()
    logger.info("job asked job=%s event=%s by=%s", job.id, event_type, by)


def _find_request(request_id: UUID | None) -> Job | None:
    if request_id is None:
        return None
    return Job.objects.filter(request_id=request_id).first()


def _conflict_of(job: Job) -> JobConflict:
    rival = Job.objects.exclude(id=job.id).find_exclusive(job.subject_id)
    if rival is None:
        return JobConflict(f"{job.title} of {job.subject_name} could not start. Try again.")
    return JobConflict(
        f"{job.title} of {job.subject_name} cannot start: {rival.title} of the same machine is "
        f"{rival.get_state_display().lower()}. Try again when that has finished.",
        rival,
    )


def _person(user: User) -> Any:
    return user if user is not None and user.is_authenticated else None


def _step_rows(job: Job, workflow: Workflow) -> list[JobStep]:
    return [
        JobStep(
            job=job,
            position=position,
            name=step.name,
            title=step.title,
            undo_kind=step.undo_kind,
            undo_reason=step.undo_reason,
        )
        for position, step in enumerate(workflow.steps, start=1)
    ]
