"""Steps of other workflows that take a recovery point of the job's machine."""

from typing import Any
from uuid import UUID

from console.jobs.workflow import StepContext, StepFailed
from protected_machines.choices import PointKind
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points import hooks
from protected_machines.points.taking import take_recovery_point


def get_machine(machine_id: UUID) -> Machine:
    """Return the machine of a job.

    Raises:
        StepFailed: it no longer exists.
    """
    machine = Machine.objects.filter(pk=machine_id).first()
    if machine is None:
        raise StepFailed(
            "MACHINE-MISSING",
            f"Machine {machine_id} no longer exists on this core.",
            is_permanent=True,
        )
    return machine


def take_point(
    context: StepContext,
    point_id: str,
    kind: str = PointKind.INCREMENTAL,
    *,
    hold_seconds: int = 0,
    watch_seconds: int = 0,
) -> dict[str, Any]:
    """Take a recovery point; return it as a step's output. See `take_recovery_point`."""
    return _describe(_take(context, point_id, kind, hold_seconds, watch_seconds))


def force_snapshot(context: StepContext, point_id: str) -> dict[str, Any]:
    """Take an incremental recovery point of the machine, and run the hooks for new points.

    Idempotent: a point with that id that exists is returned.
    Fails with AGENT-…, STORE-…, MACHINE-NOT-OWNER.
    """
    point = _take(context, point_id, PointKind.INCREMENTAL)
    hooks.run_hooks(point.machine, point)
    return _describe(point)


def _take(
    context: StepContext, point_id: str, kind: str, hold_seconds: int = 0, watch_seconds: int = 0
) -> RecoveryPoint:
    return take_recovery_point(
        get_machine(context.subject_id),
        kind,
        point_id,
        context,
        hold_seconds,
        watch_seconds,
    )


def _describe(point: RecoveryPoint) -> dict[str, Any]:
    return {"point_id": str(point.pk), "kind": point.kind, "stored_bytes": point.stored_bytes}
