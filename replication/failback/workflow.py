"""Fail one machine back to its source core, with everything written here since the failover.

While the machine keeps running here, the source core gets the points that it lacks and restores the
newest one to the rescue machine at its site. What was written during those hours follows as one
more point, and from then on the agent tracks writes. Then the machine's file systems are frozen,
the last changes become the final point, and the VM is powered off without thawing, so that nothing
can be written after that point. The final point is restored to the rescue machine, which starts
from its own disk; its agent answers the source core, which becomes the owner.

Until then everything can be undone: the VM is powered on again and belongs to this core. After that
the machine is live at its source, and only Roll back returns to the VM, until the commit.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import msgspec
from django.db import transaction
from django.utils import timezone
from msgspec import UNSET

from console.identity import this_core
from console.jobs.choices import Queue
from console.jobs.workflow import StepContext, StepFailed, Steps, Waiting, step, workflow
from protected_machines.agents.connection import dial
from protected_machines.agents.finding import find_typed
from protected_machines.choices import MachineKind
from protected_machines.exports.job_vm import JobVm, identity_in, owned_vm
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.ownership import Tenure, check_owner
from protected_machines.ownership import take_ownership as take
from protected_machines.points.steps import take_point
from protected_machines.points.store import open_store
from replication.choices import FailbackState
from replication.errors import PeerFaulty, ReplicationError
from replication.failback import final_points
from replication.failback.source_jobs import (
    cancel_quietly,
    follow_job,
    get_pairing,
    request_id,
    source_core,
)
from replication.models import FailbackMachine, ReplicatedMachine
from replication.peers import wire
from replication.peers.connection import SourceCore
from replication.transfer.sending import Sending

COPY_LIMIT_SECONDS = 24 * 3600
# The machine is down during these steps: if the link is gone for longer, it runs here again.
FINAL_LIMIT_SECONDS = 3600
BOOT_LIMIT_SECONDS = 1800
_POINT_STAYS = "a complete recovery point stays"
_ONLY_TELLS = "it only passes on facts"


@dataclass(frozen=True)
class FailbackParams:
    """Parameters of one machine's failback."""

    failback_id: UUID
    # The row that records how far this machine's failback has come.
    entry_id: UUID
    pairing_id: UUID
    # The rescue machine, by its ID on the source core.
    target_id: UUID


@workflow(
    kind="failback",
    version=2,
    title="Failback",
    queue=Queue.CONTROL,
    params=FailbackParams,
    # Its second step makes it so.
    is_exclusive=False,
    subject_url_name="protected_machines:machine",
)
def failback() -> Steps:
    return (
        reserve_names,
        begin_failback,
        trust_source,
        introduce_to_source,
        force_catch_up_point,
        send_points,
        restore_disks,
        last_running_point,
        send_last_running_point,
        restore_running_delta,
        final_point,
        power_off_vm,
        send_final_point,
        restore_final_delta,
        boot_machine,
        hand_over,
        accept_at_source,
        protect_at_source,
        replicate_again,
    )


@step("Reserve IDs for recovery points", nothing_to_undo="they are only IDs", limit_seconds=30)
def reserve_names(context: StepContext) -> dict[str, Any]:
    return {
        "catch_up_point_id": str(uuid4()),
        "running_point_id": str(uuid4()),
        "final_point_id": str(uuid4()),
    }


# Waits for a snapshot to end: machines with short intervals are rarely without one.
@step("Switch the machine to failback mode", limit_seconds=COPY_LIMIT_SECONDS, makes_exclusive=True)
def begin_failback(context: StepContext) -> dict[str, Any]:
    """Switch the machine to failback mode, so that no other failover or failback of it can start.

    Idempotent: a machine that is already pending failback is left as it is.
    Fails with FAILBACK-NOT-FAILED-OVER, MACHINE-NOT-OWNER.
    """
    with transaction.atomic():
        machine = Machine.objects.select_for_update().get(pk=context.subject_id)
        check_owner(machine)
        if machine.kind not in (MachineKind.FAILED_OVER, MachineKind.PENDING_FAILBACK):
            raise StepFailed(
                "FAILBACK-NOT-FAILED-OVER",
                f"{machine.name} is now {machine.get_kind_display().lower()} here. Only a "
                "machine that failed over to this core can fail back.",
                is_permanent=True,
            )
        vm = describe_vm(machine)
        FailbackMachine.objects.filter(pk=context.params.entry_id).update(vm=vm)
        Machine.objects.filter(pk=machine.pk).update(kind=MachineKind.PENDING_FAILBACK)
    return {**vm, "ownership_epoch": machine.ownership_epoch}


@begin_failback.undo
def undo_begin_failback(context: StepContext) -> None:
    """Make it an ordinary failed-over machine again."""
    Machine.objects.filter(pk=context.subject_id, kind=MachineKind.PENDING_FAILBACK).update(
        kind=MachineKind.FAILED_OVER
    )


@step(
    "Have the agent trust the source core",
    nothing_to_undo="the agent needs that trust for as long as the machine is replicated",
    limit_seconds=120,
    attempts=3,
)
def trust_source(context: StepContext) -> None:
    """Have the agent answer the source core too; the restored machine then does the same.

    Idempotent: telling an agent again changes nothing.
    Fails with AGENT-….
    """
    pairing = get_pairing(context)
    machine = Machine.objects.get(pk=context.subject_id)
    home = pairing.home_of(machine.pk)
    dial(machine).trust(pairing.peer_certificate_pem, pairing.peer_name, home)


@step(
    "Tell the source core about the machine",
    nothing_to_undo=_ONLY_TELLS,
    limit_seconds=300,
    attempts=3,
)
def introduce_to_source(context: StepContext) -> dict[str, Any]:
    """Tell the source core what the machine is and who owns it.

    Fails with REPLICATION-…; REPLICATION-OWNED-ELSEWHERE if the source core knows a later owner.
    """
    replicated = _get_replicated(context)
    entry = _get_entry(context)
    points = RecoveryPoint.objects.filter(machine_id=context.subject_id)
    sent = msgspec.structs.replace(
        wire.SentMachine.of(replicated),
        host=entry.rescue_host,
        point_ids=tuple(points.values_list("pk", flat=True)),
    )
    with source_core(context) as client:
        ownership = client.put_machine(context.subject_id, sent)
    if str(ownership.owner_core_id) != this_core().id:
        raise StepFailed(
            "FAILBACK-OWNER-DISPUTED",
            f"According to {get_pairing(context).peer_name}, {ownership.owner_core_name} owns "
            f"the machine (ownership epoch {ownership.ownership_epoch}). Resolve that first.",
            is_permanent=True,
        )
    return {"ownership_epoch": ownership.ownership_epoch}


@step(
    "Take a recovery point while the machine runs",
    nothing_to_undo=_POINT_STAYS,
    limit_seconds=COPY_LIMIT_SECONDS,
    attempts=2,
)
def force_catch_up_point(context: StepContext) -> dict[str, Any]:
    """Take an ordinary recovery point while the machine runs.

    Idempotent: if the point already exists, it is returned.
    Fails with AGENT-…, STORE-…, MACHINE-NOT-OWNER.
    """
    return take_point(context, context.outputs["reserve_names"]["catch_up_point_id"])


@step(
    "Send the missing recovery points to the source core",
    nothing_to_undo=_POINT_STAYS,
    limit_seconds=7 * 24 * 3600,
    attempts=2,
)
def send_points(context: StepContext) -> dict[str, Any]:
    return _send(context)


@step(
    "Restore to the rescue machine while the machine runs here",
    limit_seconds=COPY_LIMIT_SECONDS,
    attempts=2,
)
def restore_disks(context: StepContext) -> dict[str, Any]:
    """Have the source core write the newest point to the rescue machine.

    Idempotent: the source core recognises a restore that is running, and the rescue machine knows
        what it holds.
    Fails with the error of the source core's job.
    """
    return _restore(context, context.outputs["force_catch_up_point"]["point_id"], None)


@restore_disks.undo
def undo_restore_disks(context: StepContext) -> None:
    """Cancel the source core's job if it still runs; the disks it wrote to are scratch."""
    cancel_quietly(context, lambda _: UUID(context.output["job_id"]))


@step(
    "Take a last recovery point while the machine runs",
    limit_seconds=COPY_LIMIT_SECONDS,
    attempts=2,
)
def last_running_point(context: StepContext) -> dict[str, Any]:
    """Take what was written during the copying, and have the agent watch from then on.

    Idempotent: if the point already exists, it is returned. The agent knows whether the watch is
        still valid; without it the final point reads whole disks.
    Fails with AGENT-…, STORE-…, MACHINE-NOT-OWNER.
    """
    return final_points.take_watched_point(
        context, context.outputs["reserve_names"]["running_point_id"]
    )


@last_running_point.undo
def undo_last_running_point(context: StepContext) -> None:
    """End the watch; the point is complete and stays."""
    final_points.end_watch(context)


@step(
    "Send the last point before the freeze",
    nothing_to_undo=_POINT_STAYS,
    limit_seconds=COPY_LIMIT_SECONDS,
    attempts=2,
)
def send_last_running_point(context: StepContext) -> dict[str, Any]:
    return _send(context)


@step(
    "Restore what has changed while the machine runs here",
    limit_seconds=COPY_LIMIT_SECONDS,
    attempts=2,
)
def restore_running_delta(context: StepContext) -> dict[str, Any]:
    return _restore(
        context,
        context.outputs["last_running_point"]["point_id"],
        context.outputs["force_catch_up_point"]["point_id"],
    )


@restore_running_delta.undo
def undo_restore_running_delta(context: StepContext) -> None:
    """Cancel the source core's job if it still runs."""
    cancel_quietly(context, lambda _: UUID(context.output["job_id"]))


@step("Freeze the machine and take the final point", limit_seconds=FINAL_LIMIT_SECONDS, attempts=2)
def final_point(context: StepContext) -> dict[str, Any]:
    """Freeze the machine and take what has changed since; it stays frozen.

    Idempotent: if the point already exists, it is returned. The next step checks that it is still
        the last one, and takes another if it is not.
    Fails with AGENT-…, STORE-…; the machine thaws and keeps running.
    """
    return final_points.take_final_point(
        context, context.outputs["reserve_names"]["final_point_id"]
    )


@final_point.undo
def undo_final_point(context: StepContext) -> None:
    """Thaw the machine."""
    final_points.thaw(context)


@step("Power off the VM without thawing it", limit_seconds=600)
def power_off_vm(context: StepContext) -> dict[str, Any]:
    """Power off the VM without thawing it, so that nothing is written after the final point.

    If the VM is not off before the agent thaws the file systems, the point is not final.

    Idempotent: the entry records by when the VM must be off; a VM that is off stays off.
    Fails with FAILBACK-HOLD-LOST, MACHINE-VM-MISSING, VSPHERE-…, AGENT-….
    """
    vm = _vm(context)
    entry = _get_entry(context)
    held = entry.vm.get("held")
    if vm.is_on():
        first_id = context.outputs["reserve_names"]["final_point_id"]
        held = final_points.hold_frozen(context, entry, first_id)
        try:
            vm.power_off()
        except BaseException:
            final_points.thaw(context)
            raise
    if held is None or not final_points.was_off_in_time(held):
        # It is off, but not provably in time: it must continue where it stopped.
        vm.power_on()
        raise StepFailed(
            "FAILBACK-HOLD-LOST",
            "The VM was not off in time: its file systems thawed, or someone powered it "
            "off, so data may have been written after the final point. It is powered "
            "on again and keeps running here.",
        )
    return {"final_point_id": held["point_id"]}


@power_off_vm.undo
def undo_power_off_vm(context: StepContext) -> None:
    """Power on the VM, which continues where it stopped."""
    _get_entry_row(context).update(vm=final_points.without_hold(_get_entry(context).vm))
    _vm(context).power_on()


@step(
    "Send the final recovery point",
    nothing_to_undo=_POINT_STAYS,
    limit_seconds=FINAL_LIMIT_SECONDS,
    attempts=2,
)
def send_final_point(context: StepContext) -> dict[str, Any]:
    return _send(context)


@step("Restore only what has changed since", limit_seconds=FINAL_LIMIT_SECONDS, attempts=2)
def restore_final_delta(context: StepContext) -> dict[str, Any]:
    return _restore(
        context,
        context.outputs["power_off_vm"]["final_point_id"],
        context.outputs["last_running_point"]["point_id"],
    )


@restore_final_delta.undo
def undo_restore_final_delta(context: StepContext) -> None:
    """Cancel the source core's job if it still runs."""
    cancel_quietly(context, lambda _: UUID(context.output["job_id"]))


@step(
    "Start the machine from its own disk and wait for its agent",
    nothing_to_undo="a computer that was started can be switched off again",
    limit_seconds=BOOT_LIMIT_SECONDS,
)
def boot_machine(context: StepContext) -> dict[str, Any]:
    """Have the machine start from its own disk, and wait for its agent to answer the source core.

    Idempotent: a rescue machine that does not answer has already restarted.
    Fails with AGENT-…, JOBS-STEP-TIMED-OUT.
    """
    context.check_cancel()
    machine_id, rescue_id = context.subject_id, context.params.target_id
    with source_core(context) as client:
        client.restart_rescue_machine(machine_id, rescue_id)
        answer = client.ask_machine(machine_id, _sought(context))
    if answer.address is None:
        raise Waiting(answer.text, 1.0)
    return answer.address.to_json()


def _sought(context: StepContext) -> wire.SoughtMachine:
    """Return the machine to ask for, and where a person said that it is."""
    rescue_id, typed = context.params.target_id, find_typed(context.job_id)
    if typed is None:
        return wire.SoughtMachine(target_id=rescue_id)
    return wire.SoughtMachine(target_id=rescue_id, host=typed.host, port=typed.port)


@step("Hand the machine over to the source core", limit_seconds=60)
def hand_over(context: StepContext) -> dict[str, Any]:
    """Give the machine to the source core, by compare-and-set on the ownership epoch.

    Idempotent: a machine that has already failed back is left as it is.
    Fails with FAILBACK-OWNER-CHANGED.
    """
    pairing = get_pairing(context)
    source = SourceCore(str(pairing.peer_core_id), pairing.peer_name)
    with transaction.atomic():
        machine = Machine.objects.select_for_update().get(pk=context.subject_id)
        if machine.kind == MachineKind.FAILED_BACK and str(machine.owner_core_id) == source.id:
            return {"ownership_epoch": machine.ownership_epoch}
        if not machine.is_owned_here or not take(machine.pk, source, machine.ownership_epoch):
            raise StepFailed(
                "FAILBACK-OWNER-CHANGED",
                f"The owner of {machine.name} has just changed. Check it, then choose Retry.",
            )
        Machine.objects.filter(pk=machine.pk).update(
            kind=MachineKind.FAILED_BACK, source_core_id=pairing.peer_core_id
        )
        _get_entry_row(context).update(
            state=FailbackState.FAILED_BACK, failed_back_at=timezone.now()
        )
    return {"ownership_epoch": machine.ownership_epoch + 1}


@hand_over.undo
def undo_hand_over(context: StepContext) -> None:
    """Make this core the owner again, with yet a higher epoch, and tell the source core."""
    with transaction.atomic():
        machine = Machine.objects.select_for_update().get(pk=context.subject_id)
        if not machine.is_owned_here and not take(machine.pk, this_core(), machine.ownership_epoch):
            raise StepFailed(
                "FAILBACK-OWNER-CHANGED",
                f"The owner of {machine.name} has just changed. Check it, then choose Retry.",
            )
        Machine.objects.filter(pk=machine.pk, kind=MachineKind.FAILED_BACK).update(
            kind=MachineKind.PENDING_FAILBACK
        )
        _get_entry_row(context).update(state=FailbackState.UNDER_WAY, failed_back_at=None)
    tell_source(context)


@step(
    "Protect the machine at the source core",
    irreversible="the machine is live at its source. Until the commit, Roll back "
    "still returns to the VM here, without what was written there",
    limit_seconds=600,
)
def accept_at_source(context: StepContext) -> dict[str, Any]:
    """Have the source core take over the machine and protect it.

    Fails with REPLICATION-….
    """
    address = wire.MachineAddress.from_json(context.outputs["boot_machine"])
    machine = Machine.objects.get(pk=context.subject_id)
    sent = wire.TakeOver(
        host=address.host,
        port=address.port,
        description=address.description,
        ownership_epoch=context.outputs["hand_over"]["ownership_epoch"],
        owned_since=machine.owned_since,
    )
    with source_core(context) as client:
        client.take_over(context.subject_id, sent)
    return {"host": address.host, "port": address.port}


@step(
    "Force a snapshot at the source core",
    nothing_to_undo=_POINT_STAYS,
    limit_seconds=COPY_LIMIT_SECONDS,
)
def protect_at_source(context: StepContext) -> dict[str, Any]:
    """Have the source core take a recovery point of the machine.

    Idempotent: the source core recognises a snapshot that was requested or is running.
    Fails with the error of the source core's job.
    """
    asked = request_id(context, "snapshot")
    job = follow_job(context, lambda client: client.force_snapshot(context.subject_id, asked))
    if job.outputs.reserve_point is UNSET:
        raise PeerFaulty(f"{get_pairing(context).peer_name} did not say which point it took.")
    return {"point_id": str(job.outputs.reserve_point.point_id)}


@step(
    "Replicate to this core again", nothing_to_undo=_POINT_STAYS, limit_seconds=COPY_LIMIT_SECONDS
)
def replicate_again(context: StepContext) -> dict[str, Any]:
    """Wait until the source core has replicated that point to this one, and check its history.

    Idempotent: a point that is already here is not sent again.
    Fails with JOBS-STEP-TIMED-OUT.
    """
    context.check_cancel()
    point_id = context.outputs["protect_at_source"]["point_id"]
    point = RecoveryPoint.objects.filter(pk=point_id, machine_id=context.subject_id).first()
    if point is None:
        replicated = _get_replicated(context)
        if replicated.is_paused or replicated.pairing.is_paused:
            raise Waiting("Replication is paused on this core. Resume it to continue.", 5.0)
        with source_core(context) as client:
            client.ask_to_send([context.subject_id])
        raise Waiting(
            f"{get_pairing(context).peer_name} is sending its newest recovery points.", 2.0
        )
    chain = open_store().chain(str(context.subject_id), point_id)
    final_id = context.outputs["power_off_vm"]["final_point_id"]
    return {
        "kind": point.kind,
        "builds_on_final_point": final_id in [manifest.point_id for manifest in chain],
    }


def describe_vm(machine: Machine) -> dict[str, Any]:
    """Return the VM in which the machine runs here, and the address of its agent.

    Raises:
        StepFailed: this core did not create a VM for it.
    """
    if not machine.vm_marker or machine.vcenter_id is None:
        raise StepFailed(
            "FAILBACK-NO-VM",
            f"{machine.name} does not run in a VM that this core created.",
            is_permanent=True,
        )
    return {
        "vcenter_id": str(machine.vcenter_id),
        "marker": machine.vm_marker,
        "vm_name": machine.vm_name,
        "vm_moid": machine.vm_moid,
        "vm_instance_uuid": machine.vm_instance_uuid,
        "host": machine.host,
        "port": machine.port,
    }


def tell_source(context: StepContext) -> bool:
    """Tell the source core who owns the machine; if it is away, it learns that when it is back."""
    try:
        with source_core(context) as client:
            client.put_machine(context.subject_id, wire.SentMachine.of(_get_replicated(context)))
    except (Waiting, StepFailed, ReplicationError) as error:
        context.note(f"The source core has not been told yet: {error}")
        return False
    return True


def _send(context: StepContext) -> dict[str, Any]:
    """Send the source core every point that it lacks, oldest first.

    Idempotent: the source core says what it lacks, and how much of each file it holds.
    Fails with REPLICATION-…, STORE-…. After a lost connection it continues where it stopped.
    """
    with source_core(context) as client:
        return Sending(
            _get_replicated(context),
            client,
            context,
            is_pausable=False,
        ).send_missing()


def _restore(context: StepContext, point_id: str, since_point_id: str | None) -> dict[str, Any]:
    asked = wire.RestoreRequest(
        request_id=request_id(context, f"restore:{point_id}"),
        target_id=context.params.target_id,
        point_id=UUID(point_id),
        since_point_id=UUID(since_point_id) if since_point_id else None,
    )
    job = follow_job(
        context,
        lambda client: client.start_restore(context.subject_id, asked),
        is_stoppable=True,
    )
    written = job.outputs.restore_disks
    return {"job_id": str(job.job_id), **(written.to_json() if written is not UNSET else {})}


def _get_replicated(context: StepContext) -> ReplicatedMachine:
    found = (
        ReplicatedMachine.objects.select_related("machine", "pairing")
        .filter(pairing_id=context.params.pairing_id, machine_id=context.subject_id)
        .first()
    )
    if found is None:
        raise StepFailed(
            "FAILBACK-PAIRING-MISSING",
            "The machine no longer belongs to the pairing with its source core.",
            is_permanent=True,
        )
    return found


def _get_entry(context: StepContext) -> FailbackMachine:
    return FailbackMachine.objects.get(pk=context.params.entry_id)


def _get_entry_row(context: StepContext) -> Any:
    return FailbackMachine.objects.filter(pk=context.params.entry_id)


def _vm(context: StepContext) -> JobVm:
    """Return the VM in which the machine runs, which is touched only while this core owns it."""
    began = context.outputs["begin_failback"]
    epoch = began["ownership_epoch"]
    # Handing the machine over raises the epoch by one, and taking it back by another.
    tenure = Tenure(context.subject_id, this_core().id, (epoch, epoch + 2))
    return owned_vm(context, began["vcenter_id"], began["marker"], tenure, identity_in(began))
