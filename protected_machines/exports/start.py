"""Check an order to export a recovery point to a VM, and start the export."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from console.findings import Finding, errors_first
from console.jobs.acts import User, start_job
from console.jobs.models import Job
from protected_machines.errors import ExportRefused, ProtectedMachinesError
from protected_machines.exports.check import check_export
from protected_machines.exports.options import VmOptions, check_vm
from protected_machines.exports.workflow import ExportParams
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.errors import StoreError
from vsphere.errors import VSphereError


@dataclass(frozen=True)
class ExportOrder:
    """A recovery point to make a VM of, as ordered by a page, a command or a script.

    request_id: repeating an order with the same id starts nothing new.
    """

    machine_id: UUID
    point_id: UUID
    options: VmOptions
    request_id: UUID = field(default_factory=uuid4)


def check_order(order: ExportOrder) -> list[Finding]:
    """Return the findings about the order, errors first. Changes nothing."""
    options = order.options
    findings = check_vm(options.vm_name, options.cpus, options.memory_bytes)
    try:
        point = _get_point(order)
        return errors_first([*findings, *check_export(point.machine, point, options)])
    except (VSphereError, StoreError, ProtectedMachinesError) as error:
        return [*findings, Finding.error(error.code, str(error))]


def start_export(
    order: ExportOrder, requested_by: User, findings: Sequence[Finding] | None = None
) -> Job:
    """Start the export's job; a repeated order returns the first one's job.

    findings: those about this order, if it has been checked already.

    Raises:
        ExportRefused: a finding prevents it; the text says which.
        JobConflict: another job holds the machine.
    """
    for finding in check_order(order) if findings is None else findings:
        if finding.is_error:
            raise ExportRefused(finding.text)
    machine = Machine.objects.get(pk=order.machine_id)
    return start_job(
        "export",
        machine.pk,
        machine.name,
        ExportParams(point_id=order.point_id, options=order.options),
        requested_by=requested_by,
        request_id=order.request_id,
    )


def _get_point(order: ExportOrder) -> RecoveryPoint:
    point = (
        RecoveryPoint.objects.select_related("machine")
        .filter(machine_id=order.machine_id, pk=order.point_id)
        .first()
    )
    if point is None:
        raise ExportRefused(
            f"Machine {order.machine_id} has no recovery point {order.point_id} on this core."
        )
    return point
