"""Take one recovery point of a machine.

The point's id is generated first, so that a repeated step takes the same point. The agent's
stream goes into the store; a failure or a cancel leaves nothing there. Then the hooks for new
points run (replication).
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from console.jobs.choices import Queue
from console.jobs.workflow import StepContext, Steps, step, workflow
from protected_machines.choices import PointKind
from protected_machines.models import RecoveryPoint
from protected_machines.points import hooks, steps
from protected_machines.points.taking import remove_recovery_point


@dataclass(frozen=True)
class SnapshotParams:
    """What was asked for."""

    # "base_image" or "incremental"; the first point of a machine always is a base image.
    kind: str = PointKind.INCREMENTAL


@workflow(
    kind="snapshot",
    title="Snapshot",
    queue=Queue.TRANSFER,
    params=SnapshotParams,
    subject_url_name="protected_machines:machine",
    is_routine=True,
)
def snapshot() -> Steps:
    return (
        reserve_point,
        take_point,
        tell_others,
    )


@step("Reserve the recovery point's ID", nothing_to_undo="it only makes an ID", limit_seconds=30)
def reserve_point(context: StepContext) -> dict[str, Any]:
    return {"point_id": str(uuid4())}


@step("Stream the disks into the store", limit_seconds=24 * 3600)
def take_point(context: StepContext) -> dict[str, Any]:
    """Stream the agent's disks into the store.

    Idempotent: a point with that id that exists is returned.
    Fails with AGENT-…, STORE-…, MACHINE-NOT-OWNER, MACHINE-NOT-LIVE.
    """
    point_id = context.outputs["reserve_point"]["point_id"]
    return steps.take_point(context, point_id, context.params.kind)


@take_point.undo
def undo_take_point(context: StepContext) -> None:
    """Remove the point from the store and the index, if it is there."""
    remove_recovery_point(context.subject_id, context.outputs["reserve_point"]["point_id"])


@step(
    "Start follow-up jobs",
    nothing_to_undo="those are separate jobs",
    limit_seconds=120,
    attempts=3,
)
def tell_others(context: StepContext) -> None:
    """Run the hooks for new points, so that replication starts at once.

    Idempotent: hooks may be called twice for the same point.
    Fails with the errors of the hooks.
    """
    point = RecoveryPoint.objects.get(pk=context.outputs["reserve_point"]["point_id"])
    hooks.run_hooks(point.machine, point)
