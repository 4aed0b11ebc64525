"""Restore a recovery point onto a machine that runs the rescue medium.

The chain is proven before anything is written. Then the grains that hold data are written to each
disk; after a lost connection, what has been written is not sent again. The machine restarts from
its own disk, its own agent answers, and if asked to, this core protects it at its new address.

A failback has its own workflow, `restore_disks`: the machine must not start before the last changes
are on its disks.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.jobs.choices import Queue
from console.jobs.workflow import StepContext, Steps, step, workflow
from protected_machines.agents.connection import AnsweringAgent
from protected_machines.agents.finding import typed_places
from protected_machines.choices import PointState
from protected_machines.models import RecoveryPoint
from protected_machines.points import proofs
from protected_machines.restores import steps

COPY_LIMIT_SECONDS = 24 * 3600
MACHINE_LIMIT_SECONDS = 3600
_SCRATCH = "the disks of a rescue machine are meant to be overwritten"


@dataclass(frozen=True)
class RestoreParams:
    """What was asked for."""

    point_id: UUID
    # The rescue machine that this core has paired with.
    target_id: UUID
    # Protect the machine at the address where it then answers.
    is_protected_there: bool


@dataclass(frozen=True)
class RestoreDisksParams:
    """What a failback asks for."""

    point_id: UUID
    target_id: UUID
    # A point that the disks already hold: only what changed since is written.
    since_point_id: UUID | None = None


@workflow(
    kind="restore",
    title="Restore",
    queue=Queue.TRANSFER,
    params=RestoreParams,
    # It only reads points, which never change, so snapshots can be taken meanwhile.
    is_exclusive=False,
    subject_url_name="protected_machines:machine",
)
def restore() -> Steps:
    return (
        prove_chain,
        restore_disks,
        restart_machine,
        wait_for_machine,
        adopt_machine,
    )


@workflow(
    kind="restore_disks",
    title="Restore disks for a failback",
    queue=Queue.TRANSFER,
    params=RestoreDisksParams,
    is_exclusive=False,
    subject_url_name="protected_machines:machine",
)
def restore_for_failback() -> Steps:
    return (
        prove_chain,
        restore_disks,
    )


@step("Prove the recovery point", nothing_to_undo="it only reads", limit_seconds=COPY_LIMIT_SECONDS)
def prove_chain(context: StepContext) -> dict[str, Any]:
    """Prove the point and all that it builds on.

    If only changes are to be written, and the point was proven on arrival, it is not read again:
    the machine is down meanwhile.
    """
    if getattr(context.params, "since_point_id", None) is not None:
        point = RecoveryPoint.objects.filter(pk=context.params.point_id).first()
        if point is not None and point.state == PointState.PROVEN:
            return {"points": 0}
    return proofs.prove_chain(context.subject_id, context.params.point_id, context)


@step("Write the disks", nothing_to_undo=_SCRATCH, limit_seconds=COPY_LIMIT_SECONDS, attempts=3)
def restore_disks(context: StepContext) -> dict[str, Any]:
    context.check_cancel()
    return steps.restore_disks(
        context.subject_id,
        context.params.point_id,
        context.params.target_id,
        getattr(context.params, "since_point_id", None),
        context,
    )


@step(
    "Restart the machine from its own disk",
    nothing_to_undo="the rescue medium can be started again at any time",
    limit_seconds=120,
    attempts=3,
)
def restart_machine(context: StepContext) -> None:
    steps.restart_target(context.params.target_id)


@step(
    "Wait for the machine's own agent",
    nothing_to_undo="it only waits",
    limit_seconds=MACHINE_LIMIT_SECONDS,
)
def wait_for_machine(context: StepContext) -> dict[str, Any]:
    context.check_cancel()
    params: RestoreParams = context.params
    typed = typed_places(context.job_id)
    return steps.wait_for_machine(context.subject_id, params.target_id, typed).to_json()


@step(
    "Protect the machine at its new address, if requested",
    nothing_to_undo="the machine answers only there",
    limit_seconds=60,
)
def adopt_machine(context: StepContext) -> dict[str, Any]:
    if context.params.is_protected_there:
        agent = AnsweringAgent.from_json(context.outputs["wait_for_machine"])
        steps.adopt_machine(context.subject_id, agent)
    return {"is_protected_there": context.params.is_protected_there}
