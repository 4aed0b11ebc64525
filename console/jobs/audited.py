"""What the audit log holds of jobs: each order, each request to one that exists, each end.

Routine jobs, which this core starts on schedule, are recorded only when they do not succeed: the
points that they make speak for those that do.
"""

from django.conf import settings

from console.audit.acts import ObjectKind, register_acts, register_objects
from console.audit.choices import ActorKind, Outcome
from console.audit.door import Actor, come_in, current_door
from console.audit.log import Subject, record
from console.jobs.choices import TERMINAL, EventType, JobState
from console.jobs.models import Job
from console.jobs.workflow import registered_workflows

_REQUESTS = {
    EventType.CANCEL_REQUESTED: "Cancel a job",
    EventType.RETRY_REQUESTED: "Continue a job",
    EventType.UNDO_REQUESTED: "Undo a job",
    EventType.CLOSED: "Close a job",
    EventType.HELD: "Hold a job after a restore",
    EventType.RELEASED: "Release a job",
}
_ENDS = {
    JobState.SUCCEEDED: (Outcome.DONE, "is done"),
    JobState.FAILED: (Outcome.FAILED, "failed"),
    JobState.NEEDS_ATTENTION: (Outcome.FAILED, "needs attention"),
}


def register() -> None:
    """Give the acts their titles, once all workflows are known."""
    for workflow in registered_workflows():
        register_acts(
            {
                f"job-start:{workflow.kind}": f"Start: {workflow.title}",
                f"job-end:{workflow.kind}": f"End: {workflow.title}",
            }
        )
    register_acts({f"job-request:{event}": title for event, title in _REQUESTS.items()})
    register_acts(
        {
            "jobs:job-cancel": "Cancel a job",
            "jobs:job-retry": "Retry a job",
            "jobs:job-undo": "Undo a job",
            "jobs:job-release": "Release a job",
            "jobs:job-close": "Close a job",
        }
    )
    register_objects({"job_id": ObjectKind("job", Job, "subject_name", "jobs:job")})


def record_start(job: Job) -> None:
    """Record the order, in the transaction that creates the job."""
    if _is_routine(job) and current_door().actor.kind == ActorKind.SELF:
        return
    again = " again" if job.retry_of_id else ""
    sentence = f"{job.title} of {job.subject_name} was started{again}."
    record(f"job-start:{job.kind}", sentence, _subject(job), reason=job.reason)


def record_event(job: Job, event_type: EventType, state_before: str) -> None:
    """Record a request, and the end of the job, in the transaction of the event."""
    what = f"{job.title} of {job.subject_name}"
    if event_type in _REQUESTS:
        sentence = f"{_REQUESTS[event_type]}: {what}."
        record(f"job-request:{event_type}", sentence, _subject(job))
    if job.state not in TERMINAL or state_before in TERMINAL:
        return
    if _is_routine(job) and job.state == JobState.SUCCEEDED:
        return
    outcome, how = _ENDS[JobState(job.state)]
    how = "was cancelled and undone" if job.is_cancelled else how
    error = f": {job.error_text}" if job.error_text and not job.is_cancelled else "."
    # Whoever asked for it: that it ended is what this core found.
    with come_in(Actor(ActorKind.SELF, settings.UNDERSTUDY_CORE_NAME)):
        record(
            f"job-end:{job.kind}",
            f"{what} {how}{error}",
            _subject(job),
            outcome=outcome,
            reason=job.reason,
        )


def _is_routine(job: Job) -> bool:
    is_ordered = job.requested_by_id is not None or job.group_id is not None
    return job.workflow.is_routine and not is_ordered


def _subject(job: Job) -> Subject:
    return Subject("job", str(job.pk), job.subject_name)
