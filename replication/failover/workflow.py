"""Fail one machine over: it runs again in vSphere, and this core protects it there.

This core becomes the machine's owner first, so that its source refuses to act on it from then on.
The chosen recovery point is proven, exported to a VM and started. Once its drivers have settled
the VM restarts and its agent answers this core. Up to there everything can be taken back: the VM is
removed and the source core owns the machine again. With `protect_here` the machine is live; then
two forced snapshots prove that it is protected.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction

from agent.errors import AgentUnreachable
from console.identity import this_core
from console.jobs.choices import Queue
from console.jobs.workflow import Step, StepContext, StepFailed, Waiting, Workflow, register
from protected_machines.agents import connection
from protected_machines.choices import MachineKind
from protected_machines.exports import guests, steps
from protected_machines.exports.options import VmOptions
from protected_machines.models import Machine
from protected_machines.ownership import check_owner
from protected_machines.ownership import take_ownership as take
from protected_machines.points import proofs
from protected_machines.points.steps import force_snapshot, get_machine
from protected_machines.points.store import open_store
from replication.models import Pairing
from replication.peers.connection import SourceCore

GUEST_LIMIT_SECONDS = 1800
AGENT_LIMIT_SECONDS = 1800
SNAPSHOT_LIMIT_SECONDS = 24 * 3600
COPY_LIMIT_SECONDS = 24 * 3600


@dataclass(frozen=True)
class FailoverParams:
    """What one machine's failover was asked to do."""

    failover_id: UUID
    pairing_id: UUID
    # The recovery point that the machine goes on from.
    point_id: UUID
    # Where the VM goes, and its name, memory and CPUs.
    options: VmOptions


def reserve_names(context: StepContext) -> dict[str, Any]:
    """Make the VM's marker and the ids of the two recovery points to come.

    Effect: none outside; they are this step's output.
    Idempotent because: a name that nothing was made with is as good as another.
    Undo: nothing to undo.
    Fails with: nothing.
    """
    return {
        **steps.reserve_vm(),
        "first_point_id": str(uuid4()),
        "second_point_id": str(uuid4()),
    }


def take_ownership(context: StepContext) -> dict[str, Any]:
    """Make this core the machine's owner, by compare-and-set on the ownership epoch.

    Effect: the machine belongs to this core; its source is refused from now on.
    Idempotent because: a machine that fails over and belongs to this core is left as it is.
    Undo: `undo_take_ownership`.
    Fails with: FAILOVER-NOT-REPLICATED, FAILOVER-OWNER-CHANGED.
    """
    core = this_core()
    with transaction.atomic():
        machine = get_machine(context.subject_id)
        if machine.kind == MachineKind.PENDING_FAILOVER and machine.is_owned_here:
            return {"ownership_epoch": machine.ownership_epoch}
        if machine.kind != MachineKind.REPLICATED or machine.is_owned_here:
            raise StepFailed(
                "FAILOVER-NOT-REPLICATED",
                f"{machine.name} is no replica now: it is {machine.get_kind_display().lower()} "
                f"and belongs to {machine.owner_core_name}.",
                is_permanent=True,
            )
        if not take(machine.pk, core, machine.ownership_epoch):
            raise StepFailed(
                "FAILOVER-OWNER-CHANGED",
                f"The owner of {machine.name} changed at the same moment; look again.",
            )
        Machine.objects.filter(pk=machine.pk).update(kind=MachineKind.PENDING_FAILOVER)
    return {"ownership_epoch": machine.ownership_epoch + 1}


def undo_take_ownership(context: StepContext) -> None:
    """Give the machine back to its source core, with an epoch that is higher again."""
    pairing = Pairing.objects.get(pk=context.params.pairing_id)
    source = SourceCore(str(pairing.peer_core_id), pairing.peer_name)
    with transaction.atomic():
        machine = get_machine(context.subject_id)
        if machine.is_owned_here and not take(machine.pk, source, machine.ownership_epoch):
            raise StepFailed(
                "FAILOVER-OWNER-CHANGED",
                f"The owner of {machine.name} changed at the same moment; look again.",
            )
        Machine.objects.filter(pk=machine.pk, kind=MachineKind.PENDING_FAILOVER).update(
            kind=MachineKind.REPLICATED
        )


def prove_chain(context: StepContext) -> dict[str, Any]:
    """Prove the recovery point and all it builds on. See `exports.prove_chain`."""
    return proofs.prove_chain(
        context.subject_id, context.params.point_id, context.progress, context.check_cancel
    )


def export_vm(context: StepContext) -> dict[str, Any]:
    """Make the VM and upload its disks. See `exports.import_vm`."""
    return steps.import_vm(
        context.subject_id,
        context.params.point_id,
        context.params.options,
        _marker(context),
        context.progress,
        context.check_cancel,
    )


def undo_export_vm(context: StepContext) -> None:
    """Remove the VM. See `exports.undo_import_vm`."""
    steps.undo_import_vm(_vcenter_id(context), _marker(context))


def power_on(context: StepContext) -> None:
    """Start the VM. See `guests.power_on_vm`."""
    guests.power_on_vm(_vcenter_id(context), _marker(context))


def undo_power_on(context: StepContext) -> None:
    """Stop the VM. See `guests.undo_power_on_vm`."""
    guests.undo_power_on_vm(_vcenter_id(context), _marker(context))


def wait_for_guest(context: StepContext) -> dict[str, Any]:
    """Wait until the guest has started on its new hardware and has an address.

    Effect: none; it reads.
    Idempotent because: it reads.
    Undo: nothing to undo.
    Fails with: MACHINE-VM-MISSING, VSPHERE-…, AGENT-…, JOBS-STEP-TIMED-OUT.
    """
    context.check_cancel()
    guest = guests.wait_for_guest(_vcenter_id(context), _marker(context))
    boot_id = guest["boot_id"] or _boot_id_of_agent(context.subject_id, guest["address"])
    return {**guest, "guest_boot_id": guest["boot_id"] or "", "boot_id": boot_id}


def reboot_guest(context: StepContext) -> None:
    """Restart the guest, so that it comes up with the drivers it found. See `guests`."""
    guests.reboot_guest(
        _vcenter_id(context), _marker(context), context.outputs["wait_for_guest"]["guest_boot_id"]
    )


def wait_for_agent(context: StepContext) -> dict[str, Any]:
    """Wait until the machine's agent answers this core from the restarted VM. See `guests`."""
    context.check_cancel()
    return guests.wait_for_agent(
        context.subject_id,
        _vcenter_id(context),
        _marker(context),
        context.outputs["wait_for_guest"]["boot_id"],
    )


def protect_here(context: StepContext) -> dict[str, Any]:
    """Protect the machine at its new address from now on.

    Effect: the machine is failed over and online on this core; its schedule runs.
    Idempotent because: the row is made equal.
    Undo: none; see `irreversible`.
    Fails with: MACHINE-NOT-OWNER.
    """
    machine = get_machine(context.subject_id)
    check_owner(machine)
    answering = context.outputs["wait_for_agent"]
    made = context.outputs["export_vm"]
    connection.protect_here(
        machine.pk,
        host=answering["host"],
        port=answering["port"],
        description=answering["description"],
        vcenter_id=_vcenter_id(context),
        vm_moid=made["vm_moid"],
        vm_name=made["vm_name"],
        vm_marker=_marker(context),
    )
    return {"host": answering["host"], "port": answering["port"]}


def force_snapshot_1(context: StepContext) -> dict[str, Any]:
    """Take the first recovery point of the machine at its new place. See `force_snapshot`."""
    return force_snapshot(context, context.outputs["reserve_names"]["first_point_id"])


def force_snapshot_2(context: StepContext) -> dict[str, Any]:
    """Take the second recovery point, which builds on the first. See `force_snapshot`."""
    return force_snapshot(context, context.outputs["reserve_names"]["second_point_id"])


def verify_snapshots(context: StepContext) -> dict[str, Any]:
    """Prove both forced points, and that they carry the history of before the failover on.

    Effect: none outside; the index says proven.
    Idempotent because: it reads.
    Undo: nothing to undo.
    Fails with: STORE-…, FAILOVER-HISTORY-BROKEN.
    """
    names = context.outputs["reserve_names"]
    machine_id, second_point_id = context.subject_id, names["second_point_id"]
    proof = proofs.prove_chain(machine_id, second_point_id, context.progress, context.check_cancel)
    chain_ids = [
        manifest.point_id for manifest in open_store().chain(str(machine_id), second_point_id)
    ]
    if names["first_point_id"] not in chain_ids:
        raise _history_broken("the second forced snapshot does not build on the first")
    earlier_ids = chain_ids[: chain_ids.index(names["first_point_id"])]
    if not earlier_ids:
        raise _history_broken("the first forced snapshot is a base image of its own")
    return {
        "points": proof["points"],
        "builds_on_failover_point": str(context.params.point_id) in earlier_ids,
    }


def _history_broken(what: str) -> StepFailed:
    return StepFailed(
        "FAILOVER-HISTORY-BROKEN",
        f"The machine runs and is protected, but {what}, so its history has a break here. Its "
        "earlier recovery points stay as they are. Retry after a further forced snapshot, or "
        "close the job.",
    )


def _boot_id_of_agent(machine_id: UUID, host: str) -> str:
    """Ask the agent which boot runs, where the guest's tools do not tell."""
    machine = get_machine(machine_id)
    try:
        client = connection.dial(machine, connection.PING_TIMEOUT_SECONDS, host=host)
        return client.describe().boot_id
    except AgentUnreachable as error:
        raise Waiting(
            f"The guest runs at {host}; its agent does not answer yet at port {machine.port}."
        ) from error


def _marker(context: StepContext) -> str:
    return str(context.outputs["reserve_names"]["marker"])


def _vcenter_id(context: StepContext) -> UUID:
    options: VmOptions = context.params.options
    return options.vcenter_id


WORKFLOW = register(
    Workflow(
        kind="failover",
        title="Fail over",
        queue=Queue.CONTROL,
        params=FailoverParams,
        subject_url_name="protected_machines:machine",
        steps=(
            Step(
                "reserve_names",
                "Name the VM and the snapshots to come",
                reserve_names,
                nothing_to_undo="only ids were made",
                limit_seconds=30,
            ),
            Step(
                "take_ownership",
                "Switch this core to failover mode for the machine",
                take_ownership,
                undo=undo_take_ownership,
                limit_seconds=60,
            ),
            Step(
                "prove_chain",
                "Prove the recovery point and its chain",
                prove_chain,
                nothing_to_undo="it only reads",
                limit_seconds=COPY_LIMIT_SECONDS,
            ),
            Step(
                "export_vm",
                "Export the recovery point to a new VM",
                export_vm,
                undo=undo_export_vm,
                limit_seconds=COPY_LIMIT_SECONDS,
                attempts=2,
            ),
            Step(
                "power_on",
                "Power the VM on",
                power_on,
                undo=undo_power_on,
                limit_seconds=300,
                attempts=2,
            ),
            Step(
                "wait_for_guest",
                "Wait for the guest and its drivers",
                wait_for_guest,
                nothing_to_undo="it only waits",
                limit_seconds=GUEST_LIMIT_SECONDS,
                attempts=2,
            ),
            Step(
                "reboot_guest",
                "Reboot the VM",
                reboot_guest,
                nothing_to_undo="a guest that restarted is as it was",
                limit_seconds=300,
                attempts=2,
            ),
            Step(
                "wait_for_agent",
                "Wait for the agent to answer this core",
                wait_for_agent,
                nothing_to_undo="it only waits",
                limit_seconds=AGENT_LIMIT_SECONDS,
                attempts=2,
            ),
            Step(
                "protect_here",
                "Protect the machine here",
                protect_here,
                irreversible="the machine is live here from now on, and writes data of its own",
                limit_seconds=60,
            ),
            Step(
                "force_snapshot_1",
                "Force the first snapshot",
                force_snapshot_1,
                nothing_to_undo="a complete recovery point stays",
                limit_seconds=SNAPSHOT_LIMIT_SECONDS,
            ),
            Step(
                "force_snapshot_2",
                "Force the second snapshot",
                force_snapshot_2,
                nothing_to_undo="a complete recovery point stays",
                limit_seconds=SNAPSHOT_LIMIT_SECONDS,
            ),
            Step(
                "verify_snapshots",
                "Verify both snapshots",
                verify_snapshots,
                nothing_to_undo="it only reads",
                limit_seconds=COPY_LIMIT_SECONDS,
            ),
        ),
    )
)
