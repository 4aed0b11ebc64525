"""Replicate one machine: send the target core every recovery point that it lacks.

The agent is told once to trust the target core, so that it will answer there. The target core is
told about the machine, and says whether it accepts this core as the owner. Then the missing points
are sent, oldest first. Nothing needs an undo: a point that has arrived completely is valid, and a
partial one is continued next time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils import timezone

from agent.errors import AgentError
from console.jobs.choices import Queue
from console.jobs.workflow import StepContext, StepFailed, Steps, Waiting, step, workflow
from protected_machines.agents.connection import dial
from protected_machines.errors import ProtectedMachinesError
from protected_machines.ownership import check_owner
from recovery_store.errors import StoreError
from replication.errors import OwnedElsewhere, PeerUnreachable, ReplicationError
from replication.models import ReplicatedMachine
from replication.peers.claims import hear_from
from replication.peers.connection import speaking_with
from replication.peers.wire import SentMachine
from replication.transfer.sending import Sending, get_replicated

AGAIN_AFTER_CUT_SECONDS = 5.0


@dataclass(frozen=True)
class ReplicateParams:
    """Which machine's points to send."""

    # The machine's row on the pairing with the target core.
    replicated_machine_id: UUID


@workflow(
    kind="replicate",
    title="Replicate",
    queue=Queue.TRANSFER,
    params=ReplicateParams,
    subject_url_name="replication:machine",
    is_routine=True,
)
def replicate() -> Steps:
    return (
        trust_target,
        introduce_machine,
        send_points,
    )


@step(
    "Have the agent trust the target core",
    nothing_to_undo="the agent needs that trust for as long as the machine is replicated",
    limit_seconds=120,
)
def trust_target(context: StepContext) -> dict[str, Any]:
    """Have the machine's agent answer the target core too, from the next point on.

    Idempotent: an agent that has been told is not told again.
    Fails with MACHINE-NOT-OWNER. An agent that does not answer is told next time.
    """
    replicated = get_replicated(context.params.replicated_machine_id)
    with _noting_failure(replicated):
        check_owner(replicated.machine)
    if replicated.trusted_at is not None:
        return {"is_trusted": True}
    pairing = replicated.pairing
    try:
        home = pairing.home_of(replicated.machine_id)
        dial(replicated.machine).trust(pairing.peer_certificate_pem, pairing.peer_name, home)
    except AgentError as error:
        context.note(f"The agent has not been told yet: {error}")
        return {"is_trusted": False}
    replicated.note_trusted(timezone.now())
    return {"is_trusted": True}


@step(
    "Tell the target core about the machine",
    nothing_to_undo="it only passes on facts",
    limit_seconds=120,
)
def introduce_machine(context: StepContext) -> dict[str, Any]:
    """Tell the target core what the machine is, and learn whether it accepts this core as owner.

    Fails with REPLICATION-OWNED-ELSEWHERE, REPLICATION-PEER-….
    """
    replicated = get_replicated(context.params.replicated_machine_id)
    machine = replicated.machine
    with _noting_failure(replicated), speaking_with(replicated.pairing) as client:
        ownership = client.put_machine(machine.pk, SentMachine.of(replicated))
    # The epoch may have risen at the target while this core was away, though it is still the owner.
    hear_from(replicated.pairing, machine, ownership.claim)
    return {"ownership_epoch": ownership.ownership_epoch}


@step(
    "Send the missing recovery points",
    nothing_to_undo="a point that has arrived completely is valid",
    limit_seconds=7 * 24 * 3600,
)
def send_points(context: StepContext) -> dict[str, Any]:
    """Send the points that the target lacks, oldest first, with those taken in the meantime.

    Idempotent: the target says what it lacks, and how much of each file it holds.
    Fails with REPLICATION-OWNED-ELSEWHERE, REPLICATION-DAMAGED-…, REPLICATION-PEER-…. After a lost
        connection it waits, and continues where it stopped.
    """
    replicated = get_replicated(context.params.replicated_machine_id)
    try:
        with _noting_failure(replicated), speaking_with(replicated.pairing) as client:
            return Sending(replicated, client, context).send_missing()
    except PeerUnreachable as error:
        context.check_cancel()
        raise Waiting(
            f"{error.text} It resumes where it stopped.", AGAIN_AFTER_CUT_SECONDS
        ) from error


@contextmanager
def _noting_failure(replicated: ReplicatedMachine) -> Iterator[None]:
    """Record a failure on the machine's row, and learn from a refusal who owns the machine."""
    try:
        yield
    except OwnedElsewhere as error:
        hear_from(replicated.pairing, replicated.machine, error.claim)
        replicated.note_failed(error.code, error.text, timezone.now())
        raise StepFailed(error.code, error.text, is_permanent=True) from error
    except (ReplicationError, StoreError, ProtectedMachinesError) as error:
        replicated.note_failed(error.code, str(error), timezone.now())
        raise
