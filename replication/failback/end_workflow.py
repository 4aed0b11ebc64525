"""End a failback of one machine: commit it, or roll it back to the VM at this site.

Commit removes the VM; from then on the machine is an ordinary replica here. It does not need the
source core, so a site that lost its source core again can commit and then fail over again.

Roll back first takes ownership of the machine, so that the source core no longer acts on it, and
then powers on the VM, which resumes where it was frozen. What the machine wrote at its source since
then stays there, off the main line. Everything can be undone until its agent answers.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.utils import timezone

from console.identity import this_core
from console.jobs.choices import Queue
from console.jobs.workflow import StepContext, StepFailed, Steps, step, workflow
from protected_machines.agents import connection
from protected_machines.agents.finding import Search, newest_announcement_id
from protected_machines.choices import MachineKind
from protected_machines.exports.job_vm import JobVm, identity_in, owned_vm
from protected_machines.models import Machine
from protected_machines.models.machines import NO_VM
from protected_machines.ownership import Tenure, check_owner, check_settled
from protected_machines.ownership import take_ownership as take
from protected_machines.points import steps
from replication.choices import FailbackState
from replication.failback.source_jobs import get_pairing
from replication.failback.workflow import tell_source
from replication.models import FailbackMachine
from replication.peers.connection import SourceCore
from replication.transfer import history

GUEST_LIMIT_SECONDS = 1800


@dataclass(frozen=True)
class FailbackEndParams:
    """Whose failback to commit or roll back."""

    failback_id: UUID
    entry_id: UUID
    pairing_id: UUID


@workflow(
    kind="failback_commit",
    title="Failback commit",
    queue=Queue.CONTROL,
    params=FailbackEndParams,
    subject_url_name="protected_machines:machine",
)
def commit() -> Steps:
    return (
        check_failed_back,
        remove_vm,
        become_replica,
    )


@workflow(
    kind="failback_roll_back",
    title="Failback rollback",
    queue=Queue.CONTROL,
    params=FailbackEndParams,
    subject_url_name="protected_machines:machine",
)
def roll_back() -> Steps:
    return (
        reserve_point,
        take_ownership,
        refuse_source,
        power_on_vm,
        wait_for_agent,
        protect_here,
        force_snapshot,
    )


@step("Check that the VM is off", nothing_to_undo="it only reads", limit_seconds=120, attempts=2)
def check_failed_back(context: StepContext) -> dict[str, Any]:
    """Check that the machine runs at its source and that its VM is off.

    Fails with FAILBACK-NOT-FAILED-BACK, FAILBACK-VM-RUNS, MACHINE-OWNERSHIP-….
    """
    machine = Machine.objects.get(pk=context.subject_id)
    check_settled(machine)
    entry = _get_entry(context)
    if machine.kind != MachineKind.FAILED_BACK or machine.is_owned_here:
        raise StepFailed(
            "FAILBACK-NOT-FAILED-BACK",
            f"{machine.name} is now {machine.get_kind_display().lower()} here, so there "
            "is nothing to commit.",
            is_permanent=True,
        )
    vm = entry.vm
    tenure = Tenure(machine.pk, str(machine.owner_core_id), (machine.ownership_epoch,))
    found = owned_vm(context, vm["vcenter_id"], vm["marker"], tenure, identity_in(vm))
    if found.exists() and found.is_on():
        raise StepFailed(
            "FAILBACK-VM-RUNS",
            f"The VM {vm['vm_name']} is powered on, although {machine.name} runs at "
            f"{machine.owner_core_name}. Find out who started it, power it off, then "
            "choose Retry.",
        )
    return {
        "vcenter_id": vm["vcenter_id"],
        "marker": vm["marker"],
        "vm_name": vm["vm_name"],
        "vm_moid": vm.get("vm_moid", ""),
        "vm_instance_uuid": vm.get("vm_instance_uuid", ""),
        "owner_core_id": str(machine.owner_core_id),
        "ownership_epoch": machine.ownership_epoch,
    }


@step(
    "Remove the VM",
    irreversible="the VM and its disks are gone; its recovery points stay",
    limit_seconds=600,
)
def remove_vm(context: StepContext) -> None:
    """Remove the VM at this site, with its disks.

    Fails with VSPHERE-…, MACHINE-OWNER-CHANGED.
    """
    checked = context.outputs["check_failed_back"]
    tenure = Tenure(context.subject_id, checked["owner_core_id"], (checked["ownership_epoch"],))
    vcenter_id, marker = checked["vcenter_id"], checked["marker"]
    owned_vm(context, vcenter_id, marker, tenure, identity_in(checked)).remove()


@step("Make the machine a replica again", nothing_to_undo="the VM is gone", limit_seconds=60)
def become_replica(context: StepContext) -> None:
    with transaction.atomic():
        Machine.objects.filter(pk=context.subject_id, kind=MachineKind.FAILED_BACK).update(
            kind=MachineKind.REPLICATED, **NO_VM
        )
        _get_entry(context).move(
            FailbackState.FAILED_BACK, FailbackState.COMMITTED, ended_at=timezone.now()
        )


@step("Reserve an ID for the recovery point", nothing_to_undo="it is only an ID", limit_seconds=30)
def reserve_point(context: StepContext) -> dict[str, Any]:
    return {
        "point_id": str(uuid4()),
        # What the machine announces from now on may come from the VM.
        "announced_before": newest_announcement_id(context.subject_id),
    }


@step("Make this core the owner again", limit_seconds=60)
def take_ownership(context: StepContext) -> dict[str, Any]:
    """Make this core the owner again, by compare-and-set on the ownership epoch.

    Idempotent: a machine that is pending failback and belongs to this core is left as it is.
    Fails with FAILBACK-NOT-FAILED-BACK, FAILBACK-OWNER-CHANGED, MACHINE-OWNERSHIP-….
    """
    with transaction.atomic():
        machine = Machine.objects.select_for_update().get(pk=context.subject_id)
        check_settled(machine)
        if machine.kind == MachineKind.PENDING_FAILBACK and machine.is_owned_here:
            return {"ownership_epoch": machine.ownership_epoch}
        if machine.kind != MachineKind.FAILED_BACK:
            raise StepFailed(
                "FAILBACK-NOT-FAILED-BACK",
                f"{machine.name} is now {machine.get_kind_display().lower()} here, so "
                "there is no VM to return to.",
                is_permanent=True,
            )
        if not take(machine.pk, this_core(), machine.ownership_epoch):
            raise _owner_changed(machine)
        Machine.objects.filter(pk=machine.pk).update(kind=MachineKind.PENDING_FAILBACK)
    return {"ownership_epoch": machine.ownership_epoch + 1}


@take_ownership.undo
def undo_take_ownership(context: StepContext) -> None:
    """Give the machine back to its source core, with yet a higher epoch."""
    pairing = get_pairing(context)
    source = SourceCore(str(pairing.peer_core_id), pairing.peer_name)
    with transaction.atomic():
        machine = Machine.objects.select_for_update().get(pk=context.subject_id)
        if machine.is_owned_here and not take(machine.pk, source, machine.ownership_epoch):
            raise _owner_changed(machine)
        Machine.objects.filter(pk=machine.pk, kind=MachineKind.PENDING_FAILBACK).update(
            kind=MachineKind.FAILED_BACK
        )
    # The source core learns this with the next exchange of status, and then acts on it again.


@step(
    "Tell the source core",
    nothing_to_undo="the source core is told when it owns the machine again",
    limit_seconds=120,
)
def refuse_source(context: StepContext) -> dict[str, Any]:
    """Tell the source core that it no longer owns the machine.

    Never fails: a source core that is unreachable learns it when it is back, before it acts.
    """
    return {"is_told": tell_source(context)}


@step("Power on the VM", limit_seconds=300, attempts=2)
def power_on_vm(context: StepContext) -> None:
    _vm(context).power_on()


@power_on_vm.undo
def undo_power_on_vm(context: StepContext) -> None:
    """Shut the machine down. Its disks are kept for the next roll back."""
    vm = _vm(context)
    if vm.exists():
        context.note(f"Shut down through {vm.shut_down(_search(context))}.")


@step(
    "Wait for the agent to answer this core",
    nothing_to_undo="it only waits",
    limit_seconds=GUEST_LIMIT_SECONDS,
)
def wait_for_agent(context: StepContext) -> dict[str, Any]:
    context.check_cancel()
    return _vm(context).wait_for_agent(_search(context)).to_json()


@step(
    "Protect the machine here",
    irreversible="the machine is live here and writes its own data",
    limit_seconds=60,
)
def protect_here(context: StepContext) -> dict[str, Any]:
    """Protect the machine in its VM here from now on.

    Fails with MACHINE-NOT-OWNER.
    """
    machine = Machine.objects.get(pk=context.subject_id)
    check_owner(machine)
    entry = _get_entry(context)
    agent = connection.AnsweringAgent.from_json(context.outputs["wait_for_agent"])
    with transaction.atomic():
        connection.protect_here(
            machine.pk,
            agent,
            vcenter_id=entry.vm["vcenter_id"],
            vm_moid=entry.vm["vm_moid"],
            vm_instance_uuid=entry.vm.get("vm_instance_uuid", ""),
            vm_marker=entry.vm["marker"],
            vm_name=entry.vm["vm_name"],
        )
        final_id = entry.vm.get("held", {}).get("point_id")
        if final_id:
            history.keep_history_of(machine, final_id)
        entry.move(FailbackState.FAILED_BACK, FailbackState.ROLLED_BACK, ended_at=timezone.now())
    return {"host": agent.host, "port": agent.port}


@step(
    "Force a snapshot", nothing_to_undo="a complete recovery point stays", limit_seconds=24 * 3600
)
def force_snapshot(context: StepContext) -> dict[str, Any]:
    point_id = context.outputs["reserve_point"]["point_id"]
    return steps.force_snapshot(context, point_id)


def _owner_changed(machine: Machine) -> StepFailed:
    return StepFailed(
        "FAILBACK-OWNER-CHANGED",
        f"The owner of {machine.name} has just changed. Check it, then choose Retry.",
    )


def _search(context: StepContext) -> Search:
    announced_before = context.outputs["reserve_point"].get("announced_before", 0)
    return Search(context.subject_id, context.job_id, announced_before)


def _get_entry(context: StepContext) -> FailbackMachine:
    return FailbackMachine.objects.get(pk=context.params.entry_id)


def _vm(context: StepContext) -> JobVm:
    """Return the VM, which a rollback may touch only as the owner that it made this core."""
    vm = _get_entry(context).vm
    epoch = context.outputs["take_ownership"]["ownership_epoch"]
    tenure = Tenure(context.subject_id, this_core().id, (epoch,))
    return owned_vm(context, vm["vcenter_id"], vm["marker"], tenure, identity_in(vm))
