"""A machine that failed over to this core, ready to go back: the rows, its VM, its source core."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.utils import timezone
from msgspec.structs import replace

from agent.client import Deadline, MachineDescription
from console.identity import this_core
from console.jobs.acts import start_job
from console.jobs.doors import doors
from console.jobs.models import Job
from console.jobs.report import SILENCE
from console.jobs.workflow import Step, StepAction
from protected_machines.agents.connection import dial
from protected_machines.choices import MachineKind
from protected_machines.exports import steps, vcenters
from protected_machines.exports.job_vm import JobVm
from protected_machines.exports.options import VmOptions
from protected_machines.exports.vcenters import connect
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.store import Store
from replication.failback.workflow import FailbackParams
from replication.models import Failback, FailbackMachine, Pairing, ReplicatedMachine
from replication.peers.connection import speaking_with
from replication.peers.wire import SentMachine, TakeOver
from replication.transfer import receiving
from tests.places.agent import RESCUE_CODE
from tests.places.peer_core import PeerCore
from tests.reports import may_act


@dataclass
class FailedOver:
    """A machine that runs here in a VM, and the pairing with its source core."""

    machine: Machine
    pairing: Pairing
    replicated: ReplicatedMachine
    marker: str

    def fresh(self) -> Machine:
        return Machine.objects.get(pk=self.machine.pk)


def run_here(machine: Machine, pairing: Pairing, options: VmOptions) -> FailedOver:
    """Make the VM of the machine's newest point, as a failover would have, and power it on."""
    point = machine.points.order_by("-taken_at").first()
    assert point is not None
    vm = JobVm(options.vcenter_id, steps.new_marker(), may_act)
    made = steps.import_vm(machine.pk, point.pk, options, vm, SILENCE)
    with connect(vcenters.get_vcenter(options.vcenter_id)) as session:
        session.get_vm(made.identity.moid).power_on()
    Machine.objects.filter(pk=machine.pk).update(
        kind=MachineKind.FAILED_OVER,
        ownership_epoch=2,
        source_core_id=pairing.peer_core_id,
        vcenter_id=options.vcenter_id,
        vm_moid=made.identity.moid,
        vm_instance_uuid=made.identity.instance_uuid,
        vm_name=made.name,
        vm_marker=vm.marker,
    )
    RecoveryPoint.objects.filter(machine=machine).update(state="proven", proven_at=point.taken_at)
    machine.refresh_from_db()
    replicated = ReplicatedMachine.objects.create(
        pairing=pairing,
        machine=machine,
        last_point_id=point.pk,
        last_point_at=point.taken_at,
        newest_point_at=point.taken_at,
    )
    return FailedOver(machine, pairing, replicated, vm.marker)


def start_failback(failed_over: FailedOver, rescue_port: int) -> Job:
    """Start the failback's job onto the rescue machine, as the dialog would."""
    with speaking_with(failed_over.pairing) as client:
        found = client.survey_rescue_machine("127.0.0.1", rescue_port, RESCUE_CODE)
    failback = Failback.objects.create(pairing=failed_over.pairing, request_id=uuid.uuid4())
    entry = FailbackMachine.objects.create(
        failback=failback,
        machine=failed_over.machine,
        rescue_id=found.target_id,
        rescue_host="127.0.0.1",
        rescue_port=rescue_port,
    )
    params = FailbackParams(failback.pk, entry.pk, failed_over.pairing.pk, entry.rescue_id)
    return start_job(
        "failback",
        failed_over.machine.pk,
        failed_over.machine.name,
        params,
        group_id=failback.pk,
    )


@contextlib.contextmanager
def replicating_back(peer: PeerCore, failed_over: FailedOver) -> Iterator[None]:
    """Receive the source core's points here when the failback waits for them.

    This process serves no core interface; its receiving functions are called with what lies in the
    peer's store, as the calls of the peer would. And one agent stands for the machine at both
    sites: it is no longer frozen when the machine at the source starts.
    """

    def call(running: Step, action: StepAction, context: Any, undo: bool) -> Any:
        if running.name == "boot_machine" and not undo:
            dial(failed_over.fresh()).release_hold()
        if running.name == "replicate_again" and not undo:
            receive_from(peer, failed_over)
        return previous(running, action, context, undo)

    previous = doors.call
    doors.call = call
    try:
        yield
    finally:
        doors.call = previous


def receive_from(peer: PeerCore, failed_over: FailedOver) -> None:
    """Take over every point of the peer's store that is not here."""
    machine, pairing, store = failed_over.fresh(), failed_over.pairing, peer.store
    receiving.accept_machine(
        pairing,
        machine.pk,
        SentMachine.of(ReplicatedMachine(pairing=pairing, machine=machine)),
    )
    point_ids = [uuid.UUID(manifest.point_id) for manifest in store.points(str(machine.pk))]
    for point_id in receiving.missing_points(machine, point_ids):
        receive_point(store, failed_over, str(point_id))


def receive_point(store: Store, failed_over: FailedOver, point_id: str) -> None:
    """Take over one point, file by file."""
    machine = failed_over.fresh()
    manifest = store.get_point(str(machine.pk), point_id)
    receiving.begin_replica(failed_over.pairing, machine, manifest.to_bytes())
    for disk in manifest.disks:
        data = store.read_file(str(machine.pk), point_id, disk.file, 0, disk.file_bytes)
        receiving.append_slice(machine, uuid.UUID(point_id), disk.file, 0, data)
    receiving.commit_replica(failed_over.pairing, machine, uuid.UUID(point_id))


def owner_at(peer: PeerCore, machine: Machine) -> tuple[bool, int, str] | None:
    """Return what the source core's row says: owned by it, by which epoch, its kind."""
    rows = peer.rows(
        "SELECT owner_core_id, ownership_epoch, kind FROM protected_machines_machine WHERE id = ?",
        machine.pk,
    )
    if not rows:
        return None
    owner_id, epoch, kind = rows[0]
    assert owner_id in (peer.core_id.hex, uuid.UUID(this_core().id).hex)
    return owner_id == peer.core_id.hex, epoch, kind


def hand_back(failed_over: FailedOver) -> FailbackMachine:
    """Leave the rows and the VM as a failback leaves them that went well."""
    machine, pairing = failed_over.machine, failed_over.pairing
    final = machine.points.order_by("-taken_at").first()
    assert final is not None
    assert machine.vcenter_id is not None
    with connect(vcenters.get_vcenter(machine.vcenter_id)) as session:
        session.get_vm(machine.vm_moid).power_off()
    Machine.objects.filter(pk=machine.pk).update(
        kind=MachineKind.FAILED_BACK,
        owner_core_id=pairing.peer_core_id,
        owner_core_name=pairing.peer_name,
        ownership_epoch=3,
    )
    with speaking_with(pairing) as client:
        client.put_machine(
            machine.pk, replace(SentMachine.of(failed_over.replicated), ownership_epoch=2)
        )
        client.take_over(
            machine.pk,
            TakeOver(
                host="127.0.0.1",
                port=machine.port,
                description=MachineDescription.from_json(machine.description),
                ownership_epoch=3,
            ),
        )
    failback = Failback.objects.create(pairing=pairing, request_id=uuid.uuid4())
    return FailbackMachine.objects.create(
        failback=failback,
        machine=machine,
        rescue_id=uuid.uuid4(),
        rescue_host="127.0.0.1",
        vm={
            "vcenter_id": str(machine.vcenter_id),
            "marker": failed_over.marker,
            "vm_name": machine.vm_name,
            "vm_moid": machine.vm_moid,
            "vm_instance_uuid": machine.vm_instance_uuid,
            "host": machine.host,
            "port": machine.port,
            "held": {"point_id": str(final.pk), "ends": Deadline.now().to_json()},
        },
        state="failed_back",
        failed_back_at=timezone.now(),
    )


@contextlib.contextmanager
def before(
    step: str, act: Callable[[], object], *, run: int = 1, is_repeated: bool = False
) -> Iterator[None]:
    """Have something happen in the world right before a step runs for the first or a later time."""
    runs = [0]

    def call(running: Step, action: StepAction, context: Any, undo: bool) -> Any:
        if running.name == step and not undo:
            runs[0] += 1
            if runs[0] == run or (is_repeated and runs[0] > run):
                act()
        return previous(running, action, context, undo)

    previous = doors.call
    doors.call = call
    try:
        yield
    finally:
        doors.call = previous
