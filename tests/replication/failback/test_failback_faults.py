"""What can go wrong during a failback, and what is left of it then."""

import contextlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping

import pytest
from django.core.management import call_command
from django.utils import timezone

from agent.errors import AgentBusy
from console.jobs.acts import cancel_job, retry_job
from console.jobs.choices import JobState
from console.jobs.models import Job
from console.jobs.report import SILENCE
from console.jobs.testing import fail_at, log_of, run_until_done
from protected_machines.agents.connection import dial
from protected_machines.choices import MachineKind
from protected_machines.errors import OwnershipDisputed
from protected_machines.exports.options import VmOptions
from protected_machines.exports.vcenters import connect
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points.index import MISSING_TEXT
from protected_machines.points.taking import take_recovery_point
from recovery_store.store import Store
from replication.failback.facts import quote_facts
from replication.failback.quote import Quote, make_quote
from replication.models import FailbackMachine, ReplicatedMachine
from replication.peers.connection import speaking_with
from replication.peers.pairing import add_source_core
from replication.peers.wire import SentMachine
from replication.transfer.sending import Sending
from tests.places.agent import MIB, RunningAgent, overwrite
from tests.places.guests import Guests
from tests.places.link import Link
from tests.places.peer_core import PeerCore
from tests.places.waiting import wait_until
from tests.replication.failback.failbacks import (
    FailedOver,
    before,
    owner_at,
    replicating_back,
    run_here,
    start_failback,
)
from tests.replication.rivals import just_before_update

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]


@pytest.fixture
def failed_over(
    machine: Machine,
    take_point: Callable[[], RecoveryPoint],
    source: PeerCore,
    options: VmOptions,
) -> FailedOver:
    take_point()
    pairing = add_source_core("127.0.0.1", source.port, source.pairing_code)
    return run_here(machine, pairing, options)


@pytest.fixture(autouse=True)
def replicating(failed_over: FailedOver, source: PeerCore) -> Iterator[None]:
    with replicating_back(source, failed_over):
        yield


def send_all(failed_over: FailedOver) -> None:
    """Have the source core hold every point of before, as one that was kept does."""
    replicated = ReplicatedMachine.objects.select_related("machine", "pairing").get(
        pk=failed_over.replicated.pk
    )
    with speaking_with(failed_over.pairing) as client:
        client.put_machine(failed_over.machine.pk, SentMachine.of(replicated))
        Sending(replicated, client, SILENCE).send_missing()


@pytest.fixture
def link(failed_over: FailedOver, source: PeerCore) -> Iterator[Link]:
    """The way to the source core, which can be cut."""
    link = Link(source.port)
    failed_over.pairing.port = link.port
    failed_over.pairing.save(update_fields=["port"])
    yield link
    link.close()


def quote_of(failed_over: FailedOver) -> Quote:
    """What the dialog would say now."""
    machine = failed_over.fresh()
    with speaking_with(failed_over.pairing) as client:
        held = client.point_ids(machine.pk)
    facts = quote_facts(machine, held, timezone.now())
    assert facts is not None
    return make_quote(facts)


def run(failed_over: FailedOver, rescue: RunningAgent, limit_seconds: float = 60) -> Job:
    return run_until_done(start_failback(failed_over, rescue.port), limit_seconds=limit_seconds)


def assert_as_before(failed_over: FailedOver, guests: Guests) -> None:
    machine = failed_over.fresh()
    assert (machine.kind, machine.is_owned_here) == (MachineKind.FAILED_OVER, True)
    assert guests.names() == ["db-01 poweredOn"]
    # It is not frozen any more: a recovery point can be taken.
    take_recovery_point(machine, "incremental", uuid.uuid4())


def test_a_source_that_was_kept_gets_only_what_it_lacks(
    failed_over: FailedOver, rescue: RunningAgent, source: PeerCore, running_agent: RunningAgent
) -> None:
    send_all(failed_over)
    # What the source took and never sent: the machine went on without it.
    unsent = RecoveryPoint.objects.get(machine=failed_over.machine)
    columns = {field.column for field in RecoveryPoint._meta.concrete_fields}
    copied = ", ".join(sorted(columns - {"id", "ownership_epoch"}))
    source.rows(
        f"INSERT INTO protected_machines_recoverypoint (id, ownership_epoch, {copied})"
        f" SELECT ?, 1, {copied} FROM protected_machines_recoverypoint WHERE id = ?",
        uuid.uuid4(),
        unsent.pk,
    )
    overwrite(running_agent.disks["data"], 0, b"a little" * 10)
    job = run(failed_over, rescue)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert job.steps.get(name="send_points").output["sent_points"] == 1
    marks = "SELECT is_carried_on, COUNT(*) FROM protected_machines_recoverypoint GROUP BY 1"
    # Kept, shown, and not sent. The base, the catch-up, the last running, the final and the forced
    # point count.
    assert source.rows(marks) == [(0, 1), (1, 5)]
    assert failed_over.machine.points.count() == 5


def test_a_source_that_lost_the_common_point_gets_a_base_image_and_the_quote_said_so(
    failed_over: FailedOver, rescue: RunningAgent, source: PeerCore, store: Store
) -> None:
    send_all(failed_over)
    machine = failed_over.fresh()
    assert quote_of(failed_over).has_common_point
    shutil.rmtree(source.store.root / "machines" / str(machine.pk))
    # As its own look at the store says it.
    source.rows(
        "UPDATE protected_machines_recoverypoint SET state = 'damaged', damage_text = ?",
        MISSING_TEXT,
    )
    quote = quote_of(failed_over)
    assert not quote.has_common_point
    job = run(failed_over, rescue)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    # The base image, and the point that was taken while the machine ran.
    assert job.steps.get(name="send_points").output["sent_points"] == 2
    base = machine.points.get(kind="base_image")
    assert quote.send_bytes >= base.stored_bytes
    for manifest in source.store.points(str(machine.pk)):
        source.store.prove(manifest.machine_id, manifest.point_id)


def test_a_core_that_claims_the_machine_by_the_same_epoch_stops_it(
    failed_over: FailedOver, rescue: RunningAgent, source: PeerCore, guests: Guests
) -> None:
    send_all(failed_over)
    source.rows(
        "UPDATE protected_machines_machine SET owner_core_id = ?, owner_core_name = ?",
        source.core_id,
        source.name,
    )
    job = run(failed_over, rescue)
    assert job.state == JobState.FAILED, log_of(job)
    assert job.error_code in ("MACHINE-OWNERSHIP-DISPUTED", "REPLICATION-OWNED-ELSEWHERE")
    assert guests.names() == ["db-01 poweredOn"]
    with pytest.raises(OwnershipDisputed, match="Find out where it really runs"):
        take_recovery_point(failed_over.fresh(), "incremental", uuid.uuid4())
    # A person says that it runs here.
    call_command("claim_machine", "db-01")
    assert run(failed_over, rescue).state == JobState.SUCCEEDED


def test_the_final_delta_fails_and_the_vm_goes_on(
    failed_over: FailedOver, rescue: RunningAgent, guests: Guests
) -> None:
    with fail_at("send_final_point"):
        job = run(failed_over, rescue)
    assert job.state == JobState.FAILED, log_of(job)
    assert_as_before(failed_over, guests)


def test_the_final_point_breaks_off_after_the_freeze_and_the_machine_goes_on(
    failed_over: FailedOver,
    rescue: RunningAgent,
    guests: Guests,
    running_agent: RunningAgent,
    store: Store,
) -> None:
    link = Link(running_agent.port)
    Machine.objects.filter(pk=failed_over.machine.pk).update(port=link.port)

    def cut() -> None:
        overwrite(running_agent.disks["boot"], 0, os.urandom(MIB))
        link.cut_after_received_bytes = link.received_bytes + 200_000

    with before("final_point", cut, is_repeated=True):
        job = run(failed_over, rescue)
    link.close()
    Machine.objects.filter(pk=failed_over.machine.pk).update(port=running_agent.port)
    assert (job.state, job.error_code) == (JobState.FAILED, "AGENT-GONE"), log_of(job)
    assert link.cuts == job.steps.get(name="final_point").attempt == 2
    # Of the two points that broke off nothing is left: the one of before and the running ones.
    assert len(store.points(str(failed_over.machine.pk))) == 3
    assert_as_before(failed_over, guests)


def test_nothing_can_be_taken_while_the_machine_is_frozen(
    failed_over: FailedOver, rescue: RunningAgent
) -> None:
    seen: list[str] = []

    def try_it() -> None:
        try:
            take_recovery_point(failed_over.fresh(), "incremental", uuid.uuid4())
        except AgentBusy as error:
            seen.append(error.code)

    with before("power_off_vm", try_it):
        job = run(failed_over, rescue)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert seen == ["AGENT-BUSY"]


def test_a_thaw_before_the_power_off_takes_another_final_point(
    failed_over: FailedOver, rescue: RunningAgent, running_agent: RunningAgent
) -> None:
    def thaw() -> None:
        dial(failed_over.fresh()).release_hold()
        overwrite(running_agent.disks["boot"], MIB, b"written after the thaw" * 50)

    with before("power_off_vm", thaw):
        job = run(failed_over, rescue)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    first = job.steps.get(name="final_point").output["point_id"]
    final = job.steps.get(name="power_off_vm").output["final_point_id"]
    assert final != first
    data = running_agent.disks["boot"].read_bytes()
    assert rescue.disks["first"].read_bytes()[: len(data)] == data


def test_a_vm_that_somebody_else_powers_off_is_no_proof(
    failed_over: FailedOver, rescue: RunningAgent, guests: Guests
) -> None:
    def power_off() -> None:
        machine = failed_over.fresh()
        assert machine.vcenter is not None
        with connect(machine.vcenter) as session:
            session.get_vm(machine.vm_moid).power_off()

    with before("power_off_vm", power_off):
        job = run(failed_over, rescue)
    assert (job.state, job.error_code) == (JobState.FAILED, "FAILBACK-HOLD-LOST")
    assert_as_before(failed_over, guests)


# Every step in which the two cores speak, and the run of it in which the source core is lost: with
# a step that follows a job of the source core, while that core works on it.
KILLS = {
    "introduce_to_source": 1,
    "send_points": 1,
    "restore_disks": 2,
    "send_last_running_point": 1,
    "restore_running_delta": 2,
    "send_final_point": 1,
    "restore_final_delta": 2,
    "boot_machine": 1,
    "accept_at_source": 1,
    "protect_at_source": 2,
}
# The same steps, and how many bytes go over before the link is cut.
CUTS = {
    "introduce_to_source": 1,
    "send_points": 300_000,
    "restore_disks": 1,
    "send_last_running_point": 4_000,
    "restore_running_delta": 1,
    "send_final_point": 4_000,
    "restore_final_delta": 1,
    "boot_machine": 1,
    "accept_at_source": 1,
    "protect_at_source": 1,
}
RESTORES = ["restore_disks", "restore_running_delta", "restore_final_delta"]


def all_or_one(names: Iterable[str]) -> pytest.MarkDecorator:
    """Run a test once with the fault in every step, and for `make test-all` once for each step."""
    ones = [pytest.param([name], id=name, marks=pytest.mark.full) for name in names]
    return pytest.mark.parametrize("steps", [pytest.param(list(names), id="every step"), *ones])


def run_with(
    faults: Mapping[str, Callable[[], object]],
    failed_over: FailedOver,
    rescue: RunningAgent,
    runs: Mapping[str, int] | None = None,
) -> Job:
    """Run a failback in which each fault happens right before its step, and costs no attempt."""
    with contextlib.ExitStack() as stack:
        for step, fault in faults.items():
            stack.enter_context(before(step, fault, run=(runs or {}).get(step, 1)))
        job = run(failed_over, rescue, limit_seconds=240)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    attempts = dict(job.steps.values_list("name", "attempt"))
    assert {step: attempts[step] for step in faults} == dict.fromkeys(faults, 1)
    return job


# A socket whose peer dies between connecting and the handshake is left to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
@all_or_one(KILLS)
def test_a_source_core_that_is_killed_costs_time_only(
    failed_over: FailedOver, rescue: RunningAgent, source: PeerCore, steps: list[str]
) -> None:
    revivals: list[threading.Timer] = []

    def kill() -> None:
        for revival in revivals:
            revival.join()
        source.kill()
        revivals.append(threading.Timer(0.5, source.revive))
        revivals[-1].start()

    run_with(dict.fromkeys(steps, kill), failed_over, rescue, KILLS)
    assert len(revivals) == len(steps)
    revivals[-1].join()


@all_or_one(CUTS)
def test_a_link_that_is_cut_costs_time_only(
    failed_over: FailedOver, rescue: RunningAgent, link: Link, steps: list[str]
) -> None:
    def cutting(after_bytes: int) -> Callable[[], None]:
        def cut() -> None:
            link.cut_after_bytes = link.sent_bytes + after_bytes

        return cut

    run_with({step: cutting(CUTS[step]) for step in steps}, failed_over, rescue)
    assert link.cuts == len(steps)


@all_or_one(RESTORES)
def test_a_cut_between_the_source_core_and_the_blank_machine_costs_time_only(
    failed_over: FailedOver, rescue: RunningAgent, running_agent: RunningAgent, steps: list[str]
) -> None:
    returns: list[threading.Timer] = []

    def cut() -> None:
        rescue.kill()
        returns.append(threading.Timer(1.0, rescue.start))
        returns[-1].start()

    run_with(dict.fromkeys(steps, cut), failed_over, rescue)
    assert len(returns) == len(steps)
    data = running_agent.disks["boot"].read_bytes()
    assert rescue.disks["first"].read_bytes()[: len(data)] == data


def test_power_lost_on_the_blank_machine_gives_everything_back(
    failed_over: FailedOver, rescue: RunningAgent, guests: Guests
) -> None:
    with before("restore_final_delta", rescue.blank):
        job = run(failed_over, rescue)
    assert (job.state, job.error_code) == (JobState.FAILED, "RESTORE-TARGET-RESTARTED")
    assert_as_before(failed_over, guests)
    # With the new pairing the next one goes through.
    again = run(failed_over, rescue)
    assert again.state == JobState.SUCCEEDED, log_of(again)


def test_a_cancel_in_mid_restore_stops_the_source_s_job(
    failed_over: FailedOver, rescue: RunningAgent, guests: Guests, source: PeerCore
) -> None:
    job = start_failback(failed_over, rescue.port)
    rescue.kill()
    with pytest.raises(AssertionError, match="did not finish"):
        run_until_done(job, limit_seconds=6)
    assert job.steps.get(name="restore_disks").state == "waiting", log_of(job)
    cancel_job(job, None)
    run_until_done(job, limit_seconds=30)
    assert job.is_cancelled
    states = "SELECT state FROM jobs_job WHERE kind = 'restore_disks'"
    wait_until(lambda: source.rows(states) == [("failed",)], "the source core's job to be undone")
    assert_as_before(failed_over, guests)


def test_the_source_refuses_when_it_knows_a_later_owner(
    failed_over: FailedOver, rescue: RunningAgent, source: PeerCore, guests: Guests
) -> None:
    send_all(failed_over)
    source.rows(
        "UPDATE protected_machines_machine SET owner_core_id = ?, ownership_epoch = 9",
        source.core_id,
    )
    job = run(failed_over, rescue)
    assert job.state == JobState.FAILED
    assert job.error_code in ("MACHINE-NOT-OWNER", "REPLICATION-OWNED-ELSEWHERE")
    assert guests.names() == ["db-01 poweredOn"]


def test_a_hand_over_that_is_taken_back_raises_the_epoch_again(
    failed_over: FailedOver, rescue: RunningAgent, source: PeerCore, guests: Guests
) -> None:
    with before("hand_over", lambda: cancel_job(Job.objects.get(kind="failback"), None)):
        job = run(failed_over, rescue)
    assert job.is_cancelled, log_of(job)
    machine = failed_over.fresh()
    assert machine.ownership_epoch == 4
    assert owner_at(source, machine) == (False, 4, "protected")
    assert FailbackMachine.objects.get().state == "under_way"
    assert_as_before(failed_over, guests)


def test_a_failed_failback_leaves_the_store_sound(
    failed_over: FailedOver, rescue: RunningAgent, store: Store
) -> None:
    with fail_at("boot_machine"):
        run(failed_over, rescue)
    points = store.points(str(failed_over.machine.pk))
    for manifest in points:
        store.prove(manifest.machine_id, manifest.point_id)


def test_an_owner_who_changes_in_the_moment_of_the_hand_over_wins(
    failed_over: FailedOver, rescue: RunningAgent, guests: Guests
) -> None:
    machines = Machine.objects.filter(pk=failed_over.machine.pk)
    with just_before_update(
        "hand_over", "owner_core_id", lambda: machines.update(ownership_epoch=70)
    ):
        job = run(failed_over, rescue)
    assert (job.state, job.error_code) == (JobState.FAILED, "FAILBACK-OWNER-CHANGED"), log_of(job)
    assert_as_before(failed_over, guests)


def test_a_machine_without_a_vm_of_this_core_is_not_taken_back(
    failed_over: FailedOver, rescue: RunningAgent
) -> None:
    Machine.objects.filter(pk=failed_over.machine.pk).update(vm_marker="")
    job = run(failed_over, rescue)
    assert (job.state, job.error_code) == (JobState.FAILED, "FAILBACK-NO-VM"), log_of(job)
    assert failed_over.fresh().kind == MachineKind.FAILED_OVER


def test_a_failback_that_was_cancelled_or_failed_can_be_tried_again(
    failed_over: FailedOver, rescue: RunningAgent, guests: Guests
) -> None:
    job = start_failback(failed_over, rescue.port)
    with before("send_points", lambda: cancel_job(job, None)):
        run_until_done(job, limit_seconds=60)
    assert job.is_cancelled, log_of(job)
    assert_as_before(failed_over, guests)
    again = retry_job(job, None)
    with fail_at("restore_disks"):
        run_until_done(again, limit_seconds=60)
    assert again.state == JobState.FAILED, log_of(again)
    assert_as_before(failed_over, guests)
    last = run_until_done(retry_job(again, None), limit_seconds=60)
    assert last.state == JobState.SUCCEEDED, log_of(last)


@pytest.mark.parametrize(
    ("step", "left"),
    [("power_off_vm", "db-01 poweredOn"), ("send_final_point", "db-01 poweredOff")],
)
def test_no_vm_is_powered_once_another_core_owns_the_machine(
    failed_over: FailedOver, rescue: RunningAgent, guests: Guests, step: str, left: str
) -> None:
    """Not off by the step, and not on by its undo: the machine may run elsewhere."""
    machines = Machine.objects.filter(pk=failed_over.machine.pk)
    elsewhere = {"owner_core_id": uuid.uuid4(), "owner_core_name": "Third site"}

    def take() -> None:
        machines.update(**elsewhere, ownership_epoch=70)

    with before(step, take):
        job = run(failed_over, rescue)
    assert guests.names() == [left]
    assert machines.get().ownership_epoch == 70
    assert job.state in (JobState.FAILED, JobState.NEEDS_ATTENTION), log_of(job)
    codes = set(job.steps.exclude(error_code="").values_list("error_code", flat=True))
    assert codes & {"MACHINE-OWNER-CHANGED", "REPLICATION-OWNED-ELSEWHERE"}
