"""Restore a recovery point onto a machine that runs the rescue medium.

The chain is proven before anything is written. Then each disk gets the grains that hold data; a cut
costs a moment, and what is on the disks already is not sent again. The machine starts from its own
disk, its own agent answers, and if it was asked for, this core protects it at its new place.

A failback writes disks by a workflow of its own, `restore_disks`: the machine must not start before
the last changes are on them.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.jobs.choices import Queue
from console.jobs.workflow import Step, StepContext, Workflow, register
from protected_machines.choices import PointState
from protected_machines.models import RecoveryPoint
from protected_machines.points import proofs
from protected_machines.restores import steps

COPY_LIMIT_SECONDS = 24 * 3600
MACHINE_LIMIT_SECONDS = 3600
_SCRATCH = "the machine runs the rescue medium: its disks are there to be overwritten"


@dataclass(frozen=True)
class RestoreParams:
    """What was asked for."""

    point_id: UUID
    # The rescue machine that this core has paired with.
    target_id: UUID
    # Protect the machine at the place where it then answers.
    is_protected_there: bool


@dataclass(frozen=True)
class RestoreDisksParams:
    """What a failback asks for."""

    point_id: UUID
    target_id: UUID
    # The point that the disks hold already: only what changed after it is written.
    since_point_id: UUID | None = None


def prove_chain(context: StepContext) -> dict[str, Any]:
    """Prove the point and what it builds on. See `exports.prove_chain`.

    Only the changes of a point that was proven when it arrived are not read again: the machine
    stands still meanwhile.
    """
    if getattr(context.params, "since_point_id", None) is not None:
        point = RecoveryPoint.objects.filter(pk=context.params.point_id).first()
        if point is not None and point.state == PointState.PROVEN:
            return {"points": 0}
    return proofs.prove_chain(
        context.subject_id, context.params.point_id, context.progress, context.check_cancel
    )


def restore_disks(context: StepContext) -> dict[str, Any]:
    """Write the point to the rescue machine's disks. See `restoring.restore_disks`."""
    context.check_cancel()
    return steps.restore_disks(
        context.subject_id,
        context.params.point_id,
        context.params.target_id,
        getattr(context.params, "since_point_id", None),
        context.progress,
        context.check_cancel,
        context.note,
    )


def restart_machine(context: StepContext) -> None:
    """Have the machine start from its own disk. See `restoring.restart_target`."""
    steps.restart_target(context.params.target_id)


def wait_for_machine(context: StepContext) -> dict[str, Any]:
    """Wait until the machine's own agent answers. See `restoring.wait_for_machine`."""
    context.check_cancel()
    return steps.wait_for_machine(context.subject_id, context.params.target_id)


def adopt_machine(context: StepContext) -> dict[str, Any]:
    """Protect the machine at its new place, if that was asked for. See `restoring`."""
    if context.params.is_protected_there:
        steps.adopt_machine(context.subject_id, context.outputs["wait_for_machine"])
    return {"is_protected_there": context.params.is_protected_there}


_PROVE = Step(
    "prove_chain",
    "Prove the recovery point",
    prove_chain,
    nothing_to_undo="it only reads",
    limit_seconds=COPY_LIMIT_SECONDS,
)
_RESTORE = Step(
    "restore_disks",
    "Write the disks",
    restore_disks,
    nothing_to_undo=_SCRATCH,
    limit_seconds=COPY_LIMIT_SECONDS,
    attempts=3,
)

WORKFLOW = register(
    Workflow(
        kind="restore",
        title="Restore",
        queue=Queue.TRANSFER,
        params=RestoreParams,
        # It only reads points, which never change: snapshots may go on beside it.
        is_exclusive=False,
        subject_url_name="protected_machines:machine",
        steps=(
            _PROVE,
            _RESTORE,
            Step(
                "restart_machine",
                "Start the machine from its own disk",
                restart_machine,
                nothing_to_undo="the rescue medium can be started again at any time",
                limit_seconds=120,
                attempts=3,
            ),
            Step(
                "wait_for_machine",
                "Wait for the machine's own agent",
                wait_for_machine,
                nothing_to_undo="it only waits",
                limit_seconds=MACHINE_LIMIT_SECONDS,
            ),
            Step(
                "adopt_machine",
                "Protect the machine at its new place, if asked for",
                adopt_machine,
                nothing_to_undo="the machine answers there and nowhere else",
                limit_seconds=60,
            ),
        ),
    )
)

DISKS_WORKFLOW = register(
    Workflow(
        kind="restore_disks",
        title="Restore disks for a failback",
        queue=Queue.TRANSFER,
        params=RestoreDisksParams,
        is_exclusive=False,
        subject_url_name="protected_machines:machine",
        steps=(_PROVE, _RESTORE),
    )
)
