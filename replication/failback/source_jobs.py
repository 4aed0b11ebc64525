"""Follow, from the core that owns a machine, what the source core does during a failback.

A step requests a job each time it runs and reads its status; the source core recognises a repeated
request, so nothing starts twice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID, uuid5

from console.jobs.choices import OPEN, JobState
from console.jobs.workflow import JobCancelled, StepContext, StepFailed, StepTimedOut, Waiting
from replication.errors import FailbackRefused, PeerUnreachable, ReplicationError
from replication.models import Pairing
from replication.peers.client import PeerClient
from replication.peers.connection import speaking_with
from replication.peers.wire import JobStatus

AGAIN_AFTER_CUT_SECONDS = 3.0
AGAIN_SECONDS = 1.0


@contextmanager
def source_core(context: StepContext) -> Iterator[PeerClient]:
    """Connect to the source core; while it is unreachable the step waits, up to its limit.

    Raises:
        Waiting: it does not answer.
        StepFailed: it refuses permanently.
    """
    pairing = get_pairing(context)
    try:
        with speaking_with(pairing) as client:
            yield client
    except PeerUnreachable as error:
        context.check_cancel()
        raise Waiting(
            f"{error.text} It resumes where it stopped.", AGAIN_AFTER_CUT_SECONDS
        ) from error
    except FailbackRefused as error:
        raise StepFailed(error.code, f"{pairing.peer_name}: {error.text}") from error


def get_pairing(context: StepContext) -> Pairing:
    """Return the pairing with the source core.

    Raises:
        StepFailed: it was removed.
    """
    pairing = Pairing.objects.filter(pk=context.params.pairing_id).first()
    if pairing is None:
        raise StepFailed(
            "FAILBACK-PAIRING-MISSING", "The pairing with the source core was removed."
        )
    return pairing


def request_id(context: StepContext, name: str) -> UUID:
    """Return an ID that is the same whenever this attempt repeats, and new for the next attempt."""
    return uuid5(context.job_id, f"{name}:{context.attempt}")


def follow_job(
    context: StepContext, ask: Callable[[PeerClient], JobStatus], *, is_stoppable: bool = False
) -> JobStatus:
    """Request a job of the source core, show its progress, and return it once it has succeeded.

    is_stoppable: a step that is cancelled or runs out of time cancels the job too.

    Raises:
        Waiting: the job has not finished yet.
        StepFailed: the job failed there; it has the job's error code.
    """
    try:
        context.check_cancel()
    except (JobCancelled, StepTimedOut):
        if is_stoppable:
            cancel_quietly(context, lambda client: ask(client).job_id)
        raise
    name = get_pairing(context).peer_name
    with source_core(context) as client:
        job = ask(client)
    if job.total_bytes:
        context.progress(job.done_bytes, job.total_bytes)
    if job.state == JobState.SUCCEEDED:
        return job
    if job.state in OPEN:
        doing = job.note or job.step_title or "waiting for a worker"
        raise Waiting(f"{name}: {doing}", AGAIN_SECONDS)
    raise StepFailed(
        job.error_code or "FAILBACK-SOURCE-JOB-FAILED",
        f"{name}: {job.error_text or 'its job did not succeed.'}",
    )


def cancel_quietly(context: StepContext, find_job_id: Callable[[PeerClient], UUID]) -> None:
    """Cancel a job of the source core, if that can be reached: it only writes to scratch disks."""
    try:
        with speaking_with(get_pairing(context)) as client:
            client.cancel_job(context.subject_id, find_job_id(client))
    except ReplicationError as error:
        context.note(f"The job at the source core could not be cancelled: {error.text}")
