"""Export a recovery point to a VM, which is left powered off.

The chain is proven before anything is created. The VM has a marker that was saved beforehand, so
that a repeated step recognizes its own work, and the undo removes only this job's VM.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.jobs.choices import Queue
from console.jobs.workflow import StepContext, Steps, step, workflow
from protected_machines.exports import steps
from protected_machines.exports.job_vm import JobVm, identity_in, operation_of
from protected_machines.exports.options import VmOptions
from protected_machines.exports.steps import new_marker
from protected_machines.points import proofs


@dataclass(frozen=True)
class ExportParams:
    """What was asked for."""

    point_id: UUID
    # The VM's destination, name, memory and CPUs.
    options: VmOptions


@workflow(
    kind="export",
    title="Export to a VM",
    queue=Queue.TRANSFER,
    params=ExportParams,
    # It only reads points, which never change, so snapshots can be taken meanwhile.
    is_exclusive=False,
    subject_url_name="protected_machines:machine",
)
def export() -> Steps:
    return (
        reserve_vm,
        prove_chain,
        import_vm,
    )


@step("Reserve the VM's marker", nothing_to_undo="it only makes an ID", limit_seconds=30)
def reserve_vm(context: StepContext) -> dict[str, Any]:
    return {"marker": new_marker()}


@step("Prove the recovery point", nothing_to_undo="it only reads", limit_seconds=12 * 3600)
def prove_chain(context: StepContext) -> dict[str, Any]:
    return proofs.prove_chain(context.subject_id, context.params.point_id, context)


@step("Export the disks to a new VM", limit_seconds=24 * 3600)
def import_vm(context: StepContext) -> dict[str, Any]:
    params: ExportParams = context.params
    return steps.import_vm(
        context.subject_id, params.point_id, params.options, _vm(context), context
    ).to_json()


@import_vm.undo
def undo_import_vm(context: StepContext) -> None:
    """Remove the VM."""
    _vm(context).undo_import()


def _vm(context: StepContext) -> JobVm:
    params: ExportParams = context.params
    marker = context.outputs["reserve_vm"]["marker"]
    identity = identity_in(context.outputs.get("import_vm", {}))
    operation = operation_of(context)
    return JobVm(params.options.vcenter_id, marker, context.check_lease, identity, operation)
