"""Export a recovery point to a VM, which is left powered off.

The chain is proven before anything is made. The VM bears a marker that was saved beforehand, so
that a step that runs again knows its own work, and the undo removes no VM but this job's.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.jobs.choices import Queue
from console.jobs.workflow import Step, StepContext, Workflow, register
from protected_machines.exports import options as exports_options
from protected_machines.exports import steps
from protected_machines.points import proofs


@dataclass(frozen=True)
class ExportParams:
    """What was asked for."""

    point_id: UUID
    # Where the VM goes, and its name, memory and CPUs.
    options: exports_options.VmOptions


def reserve_vm(context: StepContext) -> dict[str, Any]:
    """Make the VM's marker. See `exports.reserve_vm`."""
    return steps.reserve_vm()


def prove_chain(context: StepContext) -> dict[str, Any]:
    """Prove the point and what it builds on. See `exports.prove_chain`."""
    return proofs.prove_chain(
        context.subject_id, context.params.point_id, context.progress, context.check_cancel
    )


def import_vm(context: StepContext) -> dict[str, Any]:
    """Make the VM and upload its disks. See `exports.import_vm`."""
    return steps.import_vm(
        context.subject_id,
        context.params.point_id,
        context.params.options,
        context.outputs["reserve_vm"]["marker"],
        context.progress,
        context.check_cancel,
    )


def undo_import_vm(context: StepContext) -> None:
    """Remove the VM. See `exports.undo_import_vm`."""
    steps.undo_import_vm(context.params.options.vcenter_id, context.outputs["reserve_vm"]["marker"])


WORKFLOW = register(
    Workflow(
        kind="export",
        title="Export to a VM",
        queue=Queue.TRANSFER,
        params=ExportParams,
        # It only reads points, which never change: snapshots may go on beside it.
        is_exclusive=False,
        subject_url_name="protected_machines:machine",
        steps=(
            Step(
                "reserve_vm",
                "Name the VM's marker",
                reserve_vm,
                nothing_to_undo="only an id was made",
                limit_seconds=30,
            ),
            Step(
                "prove_chain",
                "Prove the recovery point",
                prove_chain,
                nothing_to_undo="it only reads",
                limit_seconds=12 * 3600,
            ),
            Step(
                "import_vm",
                "Export the disks to a new VM",
                import_vm,
                undo=undo_import_vm,
                limit_seconds=24 * 3600,
            ),
        ),
    )
)
