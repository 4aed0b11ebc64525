"""Take one recovery point of a machine.

The id of the point is made first, so that a step that runs again makes the same point. The
agent's stream goes into the store; a failure or a cancel leaves nothing there. Then those who
registered for new points (replication) are told.
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from console.jobs.choices import Queue
from console.jobs.workflow import Step, StepContext, Workflow, register
from protected_machines.choices import PointKind
from protected_machines.models import RecoveryPoint
from protected_machines.points import hooks, steps
from protected_machines.points.taking import remove_recovery_point


@dataclass(frozen=True)
class SnapshotParams:
    """What was asked for."""

    # "base_image" or "incremental"; the first point of a machine is a base image in any case.
    kind: str = PointKind.INCREMENTAL


def reserve_point(context: StepContext) -> dict[str, Any]:
    """Make the id of the point.

    Effect: none outside; the id is this step's output.
    Idempotent because: an id that nothing was made with is as good as another.
    Undo: nothing to undo.
    Fails with: nothing.
    """
    return {"point_id": str(uuid4())}


def take_point(context: StepContext) -> dict[str, Any]:
    """Have the agent stream its disks into the store.

    Effect: one complete point in the store and in the index.
    Idempotent because: a point of that id that is there is returned as it is.
    Undo: `undo_take_point`.
    Fails with: AGENT-…, STORE-…, MACHINE-NOT-OWNER, MACHINE-NOT-LIVE.
    """
    point_id = context.outputs["reserve_point"]["point_id"]
    return steps.take_point(context, point_id, context.params.kind)


def undo_take_point(context: StepContext) -> None:
    """Remove the point from the store and from the index. Already gone is as good."""
    remove_recovery_point(context.subject_id, context.outputs["reserve_point"]["point_id"])


def tell_others(context: StepContext) -> None:
    """Tell those who registered for new points, so that replication starts at once.

    Effect: follow-up jobs are started.
    Idempotent because: hooks may be called twice for the same point.
    Undo: nothing to undo.
    Fails with: what a hook fails with.
    """
    point = RecoveryPoint.objects.get(pk=context.outputs["reserve_point"]["point_id"])
    hooks.run_hooks(point.machine, point)


WORKFLOW = register(
    Workflow(
        kind="snapshot",
        title="Snapshot",
        queue=Queue.TRANSFER,
        params=SnapshotParams,
        subject_url_name="protected_machines:machine",
        steps=(
            Step(
                "reserve_point",
                "Name the recovery point",
                reserve_point,
                nothing_to_undo="only an id was made",
                limit_seconds=30,
            ),
            Step(
                "take_point",
                "Stream the disks into the store",
                take_point,
                undo=undo_take_point,
                limit_seconds=24 * 3600,
            ),
            Step(
                "tell_others",
                "Start what follows a new point",
                tell_others,
                nothing_to_undo="what it starts is a job of its own",
                limit_seconds=120,
                attempts=3,
            ),
        ),
    )
)
