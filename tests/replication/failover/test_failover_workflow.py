"""The failover workflow: a real store, a real vSphere simulator, a real agent for the guest."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from console.jobs import engine
from console.jobs.acts import cancel_job, retry_job, start_job
from console.jobs.choices import JobState
from console.jobs.models import Job
from console.jobs.testing import fail_at, log_of, run_until_done
from protected_machines.choices import MachineKind
from protected_machines.claims import Judgement, OwnershipClaim
from protected_machines.exports.options import VmOptions
from protected_machines.exports.vcenters import connect
from protected_machines.models import Machine, RecoveryPoint, VCenter
from protected_machines.points.proofs import get_manifest
from recovery_store.store import Store
from replication.failover.workflow import FailoverParams, failover
from replication.models import Failover, Pairing, ReplicatedMachine
from replication.peers.claims import hear_from
from tests.console.jobs.generic_five import GenericFive, WorkflowCase
from tests.places.guests import Guests
from tests.places.waiting import wait_until
from tests.replication.failback.failbacks import before
from tests.replication.rivals import just_before_update
from tests.replication.rows import hand_over

pytestmark = pytest.mark.slow


@pytest.fixture
def replica(
    incoming: Pairing, machine: Machine, take_point: Callable[[], RecoveryPoint]
) -> ReplicatedMachine:
    """A machine of the lost site with two points that have arrived here."""
    take_point()
    take_point()
    return hand_over(machine, incoming)


@pytest.fixture
def start(replica: ReplicatedMachine, options: VmOptions) -> Callable[[], Job]:
    failover = Failover.objects.create(pairing=replica.pairing, request_id=uuid.uuid4())

    def start() -> Job:
        point = replica.machine.points.first()
        assert point is not None
        params = FailoverParams(failover.pk, replica.pairing_id, point.pk, options)
        return start_job(
            "failover",
            replica.machine_id,
            "db-01",
            params,
            group_id=failover.pk,
        )

    return start


class TestFailover(GenericFive):
    workflow = failover
    copying_steps = ("prove_chain", "export_vm")


@pytest.fixture
def case(
    replica: ReplicatedMachine, start: Callable[[], Job], guests: Guests, store: Store
) -> WorkflowCase:
    machine_id = replica.machine_id

    def world() -> Any:
        machine = Machine.objects.get(pk=machine_id)
        return (
            (machine.kind, machine.owner_core_name, machine.host, machine.vm_moid),
            [manifest.point_id for manifest in store.points(str(machine_id))],
            guests.names(),
        )

    def check_success(job: Job) -> None:
        machine = Machine.objects.get(pk=machine_id)
        assert machine.kind == MachineKind.FAILED_OVER
        assert machine.is_owned_here
        assert machine.connection_state == "online"
        assert guests.names() == ["db-01 poweredOn"]
        points = [manifest.point_id for manifest in store.points(str(machine_id))]
        assert len(points) == 4
        names = job.steps.get(name="reserve_names").output
        assert points[2:] == [names["first_point_id"], names["second_point_id"]]
        assert [manifest.point_id for manifest in store.chain(str(machine_id), points[3])] == points

    return WorkflowCase(start, world, check_success, 60)


def test_the_epoch_rises_with_the_failover_and_again_when_it_is_taken_back(
    replica: ReplicatedMachine, start: Callable[[], Job]
) -> None:
    with fail_at("prove_chain"):
        run_until_done(start())
    machine = Machine.objects.get(pk=replica.machine_id)
    assert (machine.owner_core_name, machine.ownership_epoch) == ("Headquarters", 3)
    run_until_done(start())
    machine.refresh_from_db()
    assert (machine.owner_core_name, machine.ownership_epoch) == ("Test core", 4)
    newest = machine.points.first()
    assert newest is not None
    assert newest.ownership_epoch == 4


def test_a_damaged_chain_stops_it_before_anything_is_made(
    replica: ReplicatedMachine, start: Callable[[], Job], store: Store, guests: Guests
) -> None:
    base, _ = store.points(str(replica.machine_id))
    path = store.get_folder(base.machine_id, base.point_id) / "disk0.vmdk"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    job = run_until_done(start())
    assert job.state == JobState.FAILED
    assert job.error_code == "STORE-CHAIN-DAMAGED"
    assert guests.names() == []
    machine = Machine.objects.get(pk=replica.machine_id)
    assert machine.owner_core_name == "Headquarters"


def test_a_cancel_while_the_guest_starts_takes_everything_back(
    replica: ReplicatedMachine, start: Callable[[], Job], guests: Guests
) -> None:
    guests.asleep.set()
    job = start()
    with pytest.raises(AssertionError, match="did not finish"):
        run_until_done(job, limit_seconds=2)
    assert guests.names() == ["db-01 poweredOn"]
    assert job.steps.get(name="wait_for_guest").state == "waiting"
    assert "VMware Tools are not reporting." in job.steps.get(name="wait_for_guest").note
    cancel_job(job, None)
    run_until_done(job, limit_seconds=30)
    assert job.is_cancelled
    assert guests.names() == []
    assert Machine.objects.get(pk=replica.machine_id).kind == MachineKind.REPLICATED


def test_a_failed_failover_can_be_tried_again(
    replica: ReplicatedMachine, start: Callable[[], Job]
) -> None:
    job = start()
    with fail_at("export_vm"):
        run_until_done(job)
    again = run_until_done(retry_job(job, None), limit_seconds=60)
    assert again.state == JobState.SUCCEEDED, log_of(again)
    assert again.group_id == job.group_id


@pytest.mark.parametrize("may_remove", [True, False])
def test_the_settings_disk_is_gone_once_the_agent_was_heard_if_it_may_be_removed(
    replica: ReplicatedMachine,
    start: Callable[[], Job],
    guests: Guests,
    clean_vcenter: VCenter,
    settings: Any,
    may_remove: bool,
) -> None:
    settings.UNDERSTUDY_HOST_FOR_MACHINES = "192.0.2.10"
    privilege = "VirtualMachine.Config.RemoveDisk"
    guests.vcsim.faults(missing_privileges=[] if may_remove else [privilege])
    try:
        job = run_until_done(start(), limit_seconds=60)
    finally:
        guests.vcsim.no_faults()
    assert job.state == JobState.SUCCEEDED, log_of(job)
    manifest = get_manifest(replica.machine_id, job.params["point_id"])
    with connect(clean_vcenter) as session:
        disks = session.get_vm(job.steps.get(name="export_vm").output["vm_moid"]).hardware().disks
    assert len(disks) == len(manifest.disks) + (0 if may_remove else 1)
    assert (privilege in log_of(job)) != may_remove


def test_a_machine_that_is_no_replica_is_not_taken(
    replica: ReplicatedMachine, start: Callable[[], Job]
) -> None:
    Machine.objects.filter(pk=replica.machine_id).update(kind=MachineKind.RECOVERY_POINTS_ONLY)
    job = run_until_done(start())
    assert job.error_code == "FAILOVER-NOT-REPLICATED"


def test_an_owner_who_changes_in_the_same_moment_wins(
    replica: ReplicatedMachine, start: Callable[[], Job], guests: Guests
) -> None:
    machines = Machine.objects.filter(pk=replica.machine_id)
    with just_before_update(
        "take_ownership", "owner_core_id", lambda: machines.update(ownership_epoch=7)
    ):
        job = run_until_done(start())
    assert (job.state, job.error_code) == (JobState.FAILED, "FAILOVER-OWNER-CHANGED"), log_of(job)
    machine = machines.get()
    assert machine.owner_core_name == "Headquarters"
    assert machine.kind == MachineKind.REPLICATED
    assert guests.names() == []


def test_a_break_in_the_history_is_said_and_the_machine_stays_protected(
    replica: ReplicatedMachine, start: Callable[[], Job]
) -> None:
    """The first forced point is damaged before the second, which so cannot build on it."""

    def damage() -> None:
        first = replica.machine.points.first()
        assert first is not None
        RecoveryPoint.objects.filter(pk=first.pk).update(state="damaged", damage_text="a bad disk")

    with before("force_snapshot_2", damage):
        job = run_until_done(start(), limit_seconds=60)
    assert job.state == JobState.NEEDS_ATTENTION, log_of(job)
    assert job.error_code == "FAILOVER-HISTORY-BROKEN"
    assert "the second forced snapshot does not build on the first" in job.error_text
    assert Machine.objects.get(pk=replica.machine_id).kind == MachineKind.FAILED_OVER


def taken_elsewhere(machine_id: uuid.UUID) -> None:
    """Have another core own the machine, as this one learns from it in the middle of a job."""
    Machine.objects.filter(pk=machine_id).update(
        owner_core_id=uuid.uuid4(), owner_core_name="Third site", ownership_epoch=70
    )


@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("export_vm", []),
        ("power_on", ["db-01 poweredOff"]),
        ("reboot_guest", ["db-01 poweredOn"]),
        ("protect_here", ["db-01 poweredOn"]),
    ],
)
def test_nothing_is_touched_once_another_core_owns_the_machine(
    replica: ReplicatedMachine,
    start: Callable[[], Job],
    guests: Guests,
    step: str,
    left: list[str],
) -> None:
    """Neither by the step nor by the undo of those before it; a person decides."""
    with before(step, lambda: taken_elsewhere(replica.machine_id)):
        job = run_until_done(start())
    assert guests.names() == left
    assert Machine.objects.get(pk=replica.machine_id).ownership_epoch == 70
    if left:
        assert job.state == JobState.NEEDS_ATTENTION, log_of(job)
        stuck = job.steps.get(name=job.current_step)
        assert stuck.error_code in ("MACHINE-OWNER-CHANGED", "MACHINE-NOT-OWNER")
        assert "Third site" in stuck.error_text
    else:
        assert (job.state, job.error_code) == (JobState.FAILED, "MACHINE-OWNER-CHANGED")


def test_a_dispute_stops_a_failover_before_the_vm_is_touched_again(
    replica: ReplicatedMachine, start: Callable[[], Job], guests: Guests
) -> None:
    def dispute() -> None:
        machine = Machine.objects.get(pk=replica.machine_id)
        claim = OwnershipClaim(str(replica.pairing.peer_core_id), "Headquarters", 9, timezone.now())
        assert hear_from(replica.pairing, machine, claim) is Judgement.DISPUTED

    with before("power_on", dispute):
        job = run_until_done(start())
    assert guests.names() == ["db-01 poweredOff"]
    assert job.state == JobState.NEEDS_ATTENTION, log_of(job)
    stuck = job.steps.get(name=job.current_step)
    assert stuck.error_code == "MACHINE-OWNERSHIP-DISPUTED"


@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("export_vm", []),
        ("power_on", ["db-01 poweredOff"]),
        ("reboot_guest", ["db-01 poweredOn"]),
    ],
)
def test_a_worker_that_stood_still_touches_nothing_after_its_successor_took_over(
    start: Callable[[], Job], guests: Guests, step: str, left: list[str]
) -> None:
    job = start()

    def take_over() -> None:
        until = timezone.now() + timedelta(hours=1)
        Job.objects.filter(pk=job.pk).update(lease_owner="successor", lease_until=until)

    def is_taken_over() -> bool:
        engine.run_job(job.pk, send=lambda *_: True)
        job.refresh_from_db()
        return job.lease_owner == "successor"

    with before(step, take_over):
        wait_until(is_taken_over, "the worker to lose its job", detail=lambda: log_of(job))
    assert guests.names() == left
