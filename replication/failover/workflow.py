"""Fail one machine over: it runs again in vSphere, and this core protects it there.

First this core becomes the machine's owner, so that its source refuses to act on it from then on.
The chosen recovery point is proven and exported to a VM, which is started. Once the guest has its
drivers, it reboots, and its agent answers this core. Until then everything can be undone: the VM is
removed and the source core owns the machine again. With `protect_here` the machine is live; two
forced snapshots then show that it is protected.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction

from console.identity import this_core
from console.jobs.choices import Queue
from console.jobs.workflow import StepContext, StepFailed, Steps, step, workflow
from protected_machines.agents import connection
from protected_machines.agents.finding import Search, newest_announcement_id
from protected_machines.choices import MachineKind
from protected_machines.exports import steps
from protected_machines.exports.job_vm import JobVm, SeenGuest, identity_in, owned_vm
from protected_machines.exports.options import VmOptions
from protected_machines.models import Machine
from protected_machines.ownership import Tenure, check_owner, check_settled
from protected_machines.ownership import take_ownership as take
from protected_machines.points import proofs
from protected_machines.points.steps import force_snapshot, get_machine
from protected_machines.points.store import open_store
from replication.models import Pairing
from replication.peers.connection import SourceCore
from replication.peers.fellows import refresh_fellows

GUEST_LIMIT_SECONDS = 1800
REBOOT_LIMIT_SECONDS = 900
# A guest in which nobody answers for so long is reset instead of being asked.
RESET_AFTER_SECONDS = 300
# A vCenter that restarts may take a quarter of an hour.
VCENTER_LIMIT_SECONDS = 1800
# Each attempt first looks how far the one before came. A vCenter that restarts costs one.
VCENTER_ATTEMPTS = 5
AGENT_LIMIT_SECONDS = 1800
SNAPSHOT_LIMIT_SECONDS = 24 * 3600
COPY_LIMIT_SECONDS = 24 * 3600


@dataclass(frozen=True)
class FailoverParams:
    """Parameters of one machine's failover."""

    failover_id: UUID
    pairing_id: UUID
    # The recovery point that the machine continues from.
    point_id: UUID
    # Where the VM goes, and its name, memory and CPUs.
    options: VmOptions


@workflow(
    kind="failover",
    title="Failover",
    queue=Queue.CONTROL,
    params=FailoverParams,
    subject_url_name="protected_machines:machine",
)
def failover() -> Steps:
    return (
        reserve_names,
        take_ownership,
        prove_chain,
        export_vm,
        power_on,
        wait_for_guest,
        reboot_guest,
        wait_for_agent,
        protect_here,
        force_snapshot_1,
        force_snapshot_2,
        verify_snapshots,
    )


@step(
    "Reserve IDs for the VM and the recovery points",
    nothing_to_undo="they are only IDs",
    limit_seconds=30,
)
def reserve_names(context: StepContext) -> dict[str, Any]:
    return {
        "marker": steps.new_marker(),
        # What the machine announces from now on may come from the VM.
        "announced_before": newest_announcement_id(context.subject_id),
        "first_point_id": str(uuid4()),
        "second_point_id": str(uuid4()),
    }


@step("Switch this core to failover mode for the machine", limit_seconds=60)
def take_ownership(context: StepContext) -> dict[str, Any]:
    """Make this core the machine's owner, by compare-and-set on the ownership epoch.

    Idempotent: a machine that is pending failover and belongs to this core is left as it is.
    Fails with FAILOVER-NOT-REPLICATED, FAILOVER-OWNER-CHANGED, MACHINE-OWNERSHIP-….
    """
    core = this_core()
    pairing = Pairing.objects.get(pk=context.params.pairing_id)
    # Another target core may have failed it over since the dialog was checked.
    refresh_fellows(pairing)
    with transaction.atomic():
        machine = get_machine(context.subject_id)
        check_settled(machine)
        if machine.kind == MachineKind.PENDING_FAILOVER and machine.is_owned_here:
            return {"ownership_epoch": machine.ownership_epoch}
        is_replica = machine.kind == MachineKind.REPLICATED
        if not is_replica or machine.owner_core_id != pairing.peer_core_id:
            raise StepFailed(
                "FAILOVER-NOT-REPLICATED",
                f"{machine.name} is not a replica: it is "
                f"{machine.get_kind_display().lower()} and owned by "
                f"{machine.owner_core_name}.",
                is_permanent=True,
            )
        if not take(machine.pk, core, machine.ownership_epoch):
            raise StepFailed(
                "FAILOVER-OWNER-CHANGED",
                f"The owner of {machine.name} has just changed. Check it, then choose Retry.",
            )
        Machine.objects.filter(pk=machine.pk).update(kind=MachineKind.PENDING_FAILOVER)
    return {"ownership_epoch": machine.ownership_epoch + 1}


@take_ownership.undo
def undo_take_ownership(context: StepContext) -> None:
    """Give the machine back to its source core, with yet a higher epoch."""
    pairing = Pairing.objects.get(pk=context.params.pairing_id)
    source = SourceCore(str(pairing.peer_core_id), pairing.peer_name)
    with transaction.atomic():
        machine = get_machine(context.subject_id)
        if machine.is_owned_here:
            check_settled(machine)
            if not take(machine.pk, source, machine.ownership_epoch):
                raise StepFailed(
                    "FAILOVER-OWNER-CHANGED",
                    f"The owner of {machine.name} has just changed. Check it, then choose Retry.",
                )
        Machine.objects.filter(pk=machine.pk, kind=MachineKind.PENDING_FAILOVER).update(
            kind=MachineKind.REPLICATED
        )


@step(
    "Prove the recovery point and its chain",
    nothing_to_undo="it only reads",
    limit_seconds=COPY_LIMIT_SECONDS,
)
def prove_chain(context: StepContext) -> dict[str, Any]:
    return proofs.prove_chain(context.subject_id, context.params.point_id, context)


@step(
    "Export the recovery point to a new VM",
    limit_seconds=COPY_LIMIT_SECONDS,
    attempts=VCENTER_ATTEMPTS,
)
def export_vm(context: StepContext) -> dict[str, Any]:
    params: FailoverParams = context.params
    return steps.import_vm(
        context.subject_id, params.point_id, params.options, _vm(context), context
    ).to_json()


@export_vm.undo
def undo_export_vm(context: StepContext) -> None:
    """Remove the VM."""
    _vm(context).undo_import()


@step("Power on the VM", limit_seconds=VCENTER_LIMIT_SECONDS, attempts=VCENTER_ATTEMPTS)
def power_on(context: StepContext) -> None:
    _vm(context).power_on()


@power_on.undo
def undo_power_on(context: StepContext) -> None:
    """Power off the VM."""
    _vm(context).undo_power_on()


@step(
    "Wait for the guest and its drivers",
    nothing_to_undo="it only waits",
    limit_seconds=GUEST_LIMIT_SECONDS,
    attempts=2,
)
def wait_for_guest(context: StepContext) -> dict[str, Any]:
    """Wait until the guest has started on its new hardware and has an address.

    Fails with MACHINE-VM-MISSING, VSPHERE-…, AGENT-…, JOBS-STEP-TIMED-OUT.
    """
    context.check_cancel()
    guest = _vm(context).wait_for_guest(_search(context))
    return {
        "address": guest.address,
        "hostname": guest.hostname,
        "guest_boot_id": guest.tools_boot_id,
        "boot_id": guest.boot_id,
    }


@step(
    "Reboot the VM",
    nothing_to_undo="a reboot changes nothing that has to be undone",
    limit_seconds=REBOOT_LIMIT_SECONDS,
    attempts=VCENTER_ATTEMPTS,
)
def reboot_guest(context: StepContext) -> dict[str, Any]:
    """Reboot the guest, so that it comes up with the drivers it has just set up.

    Through its agent, through VMware Tools, or by a reset; the output and a note say which.
    """
    context.check_cancel()
    seen = context.outputs["wait_for_guest"]
    through = _vm(context).reboot_guest(
        _search(context),
        SeenGuest(seen["address"], seen["hostname"], seen["boot_id"], seen["guest_boot_id"]),
        is_last_resort=context.seconds_left < REBOOT_LIMIT_SECONDS - RESET_AFTER_SECONDS,
    )
    context.note(f"Rebooted through {through}.")
    return {"rebooted_through": through}


@step(
    "Wait for the agent to answer this core",
    nothing_to_undo="it waits, and removes what the VM no longer needs",
    limit_seconds=AGENT_LIMIT_SECONDS,
    attempts=2,
)
def wait_for_agent(context: StepContext) -> dict[str, Any]:
    """Wait until the agent answers after the reboot; then the VM needs no settings disk."""
    context.check_cancel()
    boot_id, vm = context.outputs["wait_for_guest"]["boot_id"], _vm(context)
    agent = vm.wait_for_agent(_search(context), boot_id)
    if stays := vm.remove_settings_disk():
        context.note(f"The settings disk, the VM's last one, was not removed. {stays}")
    return agent.to_json()


@step(
    "Protect the machine here",
    irreversible="the machine is live here and writes its own data",
    limit_seconds=60,
)
def protect_here(context: StepContext) -> dict[str, Any]:
    """Protect the machine at its new address from now on.

    Fails with MACHINE-NOT-OWNER.
    """
    machine = get_machine(context.subject_id)
    check_owner(machine)
    agent = connection.AnsweringAgent.from_json(context.outputs["wait_for_agent"])
    made, vm = context.outputs["export_vm"], _vm(context)
    connection.protect_here(
        machine.pk,
        agent,
        vcenter_id=vm.vcenter_id,
        vm_moid=made["vm_moid"],
        vm_instance_uuid=made.get("vm_instance_uuid", ""),
        vm_name=made["vm_name"],
        vm_marker=vm.marker,
    )
    return {"host": agent.host, "port": agent.port}


@step(
    "Force the first snapshot",
    nothing_to_undo="a complete recovery point stays",
    limit_seconds=SNAPSHOT_LIMIT_SECONDS,
)
def force_snapshot_1(context: StepContext) -> dict[str, Any]:
    return force_snapshot(context, context.outputs["reserve_names"]["first_point_id"])


@step(
    "Force the second snapshot",
    nothing_to_undo="a complete recovery point stays",
    limit_seconds=SNAPSHOT_LIMIT_SECONDS,
)
def force_snapshot_2(context: StepContext) -> dict[str, Any]:
    """Take the second recovery point, which builds on the first."""
    return force_snapshot(context, context.outputs["reserve_names"]["second_point_id"])


@step("Verify both snapshots", nothing_to_undo="it only reads", limit_seconds=COPY_LIMIT_SECONDS)
def verify_snapshots(context: StepContext) -> dict[str, Any]:
    """Prove both forced points, and check that they continue the history before the failover.

    Fails with STORE-…, FAILOVER-HISTORY-BROKEN.
    """
    names = context.outputs["reserve_names"]
    machine_id, second_point_id = context.subject_id, names["second_point_id"]
    proof = proofs.prove_chain(machine_id, second_point_id, context)
    chain_ids = [
        manifest.point_id for manifest in open_store().chain(str(machine_id), second_point_id)
    ]
    if names["first_point_id"] not in chain_ids:
        raise _history_broken("the second forced snapshot does not build on the first")
    earlier_ids = chain_ids[: chain_ids.index(names["first_point_id"])]
    if not earlier_ids:
        raise _history_broken("the first forced snapshot starts with a new base image")
    return {
        "points": proof["points"],
        "builds_on_failover_point": str(context.params.point_id) in earlier_ids,
    }


def _history_broken(what: str) -> StepFailed:
    return StepFailed(
        "FAILOVER-HISTORY-BROKEN",
        f"The machine runs and is protected, but {what}, so its history has a gap here. "
        "Earlier recovery points are kept. Force another snapshot, then choose Retry, or "
        "close the job.",
    )


def _search(context: StepContext) -> Search:
    """Return where to look for the machine. A job of an older version counts all announcements."""
    announced_before = context.outputs["reserve_names"].get("announced_before", 0)
    return Search(context.subject_id, context.job_id, announced_before)


def _vm(context: StepContext) -> JobVm:
    """Return this job's VM, which it may touch only as the owner that it made this core."""
    params: FailoverParams = context.params
    epoch = context.outputs["take_ownership"]["ownership_epoch"]
    return owned_vm(
        context,
        params.options.vcenter_id,
        context.outputs["reserve_names"]["marker"],
        Tenure(context.subject_id, this_core().id, (epoch,)),
        identity_in(context.outputs.get("export_vm", {})),
    )
