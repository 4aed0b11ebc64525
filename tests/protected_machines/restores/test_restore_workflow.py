"""Restore: a real store, a real agent for the machine, a real rescue agent over raw files."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.client import AgentClient, MachineDescription
from agent.errors import AgentCertificateChanged
from console.jobs.acts import start_job
from console.jobs.choices import JobState
from console.jobs.models import Job
from console.jobs.testing import run_until_done
from console.jobs.workflow import Waiting
from protected_machines.agents import connection
from protected_machines.agents.finding import Place
from protected_machines.models import Machine, RecoveryPoint, RestoreTarget
from protected_machines.points.taking import take_recovery_point
from protected_machines.restores.rescue_machines import pair_target
from protected_machines.restores.steps import wait_for_machine
from protected_machines.restores.workflow import (
    RestoreDisksParams,
    RestoreParams,
    restore,
    restore_for_failback,
)
from recovery_store.store import Store
from tests.console.jobs.generic_five import GenericFive, WorkflowCase
from tests.places.agent import (
    MIB,
    RESCUE_CODE,
    RunningAgent,
    overwrite,
)

pytestmark = pytest.mark.django_db
# Boot sector and partition table are written last, right before the machine starts from its disk.
HEAD_BYTES = 4096


@pytest.fixture
def point(machine: Machine, agent: RunningAgent) -> RecoveryPoint:
    """A point whose disks are no longer what the machine's are."""
    take_recovery_point(machine, "base_image", uuid.uuid4())
    overwrite(agent.disks["boot"], 3 * MIB, b"changed" * 1000)
    return take_recovery_point(machine, "incremental", uuid.uuid4())


@pytest.fixture
def target(point: RecoveryPoint, rescue: RunningAgent) -> RestoreTarget:
    return pair_target("127.0.0.1", rescue.port, RESCUE_CODE)


def assert_holds(disk: Path, image: Path, from_bytes: int = 0) -> None:
    data = image.read_bytes()
    assert disk.read_bytes()[from_bytes : len(data)] == data[from_bytes:]


@pytest.fixture
def world(machine: Machine, store: Store, rescue: RunningAgent) -> Callable[[], Any]:
    def look() -> Any:
        found = Machine.objects.get(pk=machine.pk)
        heads = [disk.read_bytes()[:HEAD_BYTES] for disk in rescue.disks.values()]
        return {
            "owner": (found.kind, found.owner_core_name, found.ownership_epoch),
            "place": (found.host, found.port, found.connection_state, found.is_paused),
            "points": [manifest.point_id for manifest in store.points(str(machine.pk))],
            "damaged": found.points.filter(state="damaged").count(),
            "targets": list(RestoreTarget.objects.values_list("id", flat=True)),
            # The other bytes of the disks are scratch.
            "starts from half a disk": any(map(any, heads)) and not rescue.has_restarted(),
        }

    return look


class TestRestoreDisks(GenericFive):
    """What a failback asks for: the machine does not start from the disks yet."""

    workflow = restore_for_failback
    copying_steps = ("prove_chain", "restore_disks")

    @pytest.fixture
    def case(
        self,
        machine: Machine,
        point: RecoveryPoint,
        target: RestoreTarget,
        agent: RunningAgent,
        rescue: RunningAgent,
        world: Callable[[], Any],
    ) -> WorkflowCase:
        def start() -> Job:
            params = RestoreDisksParams(point.pk, target.pk)
            return start_job("restore_disks", machine.pk, machine.name, params)

        def check_success(job: Job) -> None:
            assert_holds(rescue.disks["first"], agent.disks["boot"], HEAD_BYTES)
            assert_holds(rescue.disks["second"], agent.disks["data"], HEAD_BYTES)
            assert not rescue.has_restarted(0)

        return WorkflowCase(start, world, check_success, 60)


class TestRestore(GenericFive):
    workflow = restore
    copying_steps = ("prove_chain", "restore_disks")


@pytest.fixture
def case(
    machine: Machine,
    point: RecoveryPoint,
    target: RestoreTarget,
    agent: RunningAgent,
    rescue: RunningAgent,
    world: Callable[[], Any],
) -> WorkflowCase:
    def start() -> Job:
        params = RestoreParams(point.pk, target.pk, is_protected_there=True)
        return start_job("restore", machine.pk, machine.name, params)

    def check_success(job: Job) -> None:
        assert_holds(rescue.disks["first"], agent.disks["boot"])
        assert_holds(rescue.disks["second"], agent.disks["data"])
        assert rescue.has_restarted()
        found = Machine.objects.get(pk=machine.pk)
        assert (found.host, found.port) == ("127.0.0.1", agent.port)
        assert found.connection_state == "online"

    return WorkflowCase(start, world, check_success, 60)


def test_a_delta_writes_only_what_changed_since(
    machine: Machine,
    point: RecoveryPoint,
    target: RestoreTarget,
    agent: RunningAgent,
    rescue: RunningAgent,
) -> None:
    first = RestoreDisksParams(point.pk, target.pk)
    whole = run_until_done(start_job("restore_disks", machine.pk, machine.name, first))
    overwrite(agent.disks["boot"], 1 * MIB, b"later" * 100)
    later = take_recovery_point(machine, "incremental", uuid.uuid4())
    params = RestoreDisksParams(later.pk, target.pk, since_point_id=point.pk)
    delta = run_until_done(start_job("restore_disks", machine.pk, machine.name, params))
    assert delta.state == JobState.SUCCEEDED
    assert_holds(rescue.disks["first"], agent.disks["boot"], HEAD_BYTES)
    written = [
        job.steps.get(name="restore_disks").output["written_bytes"] for job in (whole, delta)
    ]
    assert written[1] < written[0] / 10
    assert not rescue.has_restarted(0)


def test_a_rescue_machine_that_was_restarted_is_named(
    machine: Machine, point: RecoveryPoint, target: RestoreTarget, rescue: RunningAgent
) -> None:
    rescue.blank()
    params = RestoreDisksParams(point.pk, target.pk)
    job = run_until_done(start_job("restore_disks", machine.pk, machine.name, params))
    assert job.state == JobState.FAILED
    assert job.error_code == "RESTORE-TARGET-RESTARTED"
    assert "Pair with it again" in job.error_text


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    machine: Machine, point: RecoveryPoint, tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    small = RunningAgent(folder, settings={"mode": "restore"}, code=RESCUE_CODE)
    small.add_blank_disk("first", 3 * MIB)
    small.add_blank_disk("second", 2 * MIB)
    small.start()
    try:
        target = pair_target("127.0.0.1", small.port, RESCUE_CODE)
        params = RestoreDisksParams(point.pk, target.pk)
        job = run_until_done(start_job("restore_disks", machine.pk, machine.name, params))
    finally:
        small.kill()
    assert job.error_code == "AGENT-DISK-TOO-SMALL"
    assert f"{MIB} bytes" in job.error_text
    assert not any(small.disks["first"].read_bytes())


def test_a_cut_restore_waits_and_goes_on(
    machine: Machine,
    point: RecoveryPoint,
    target: RestoreTarget,
    agent: RunningAgent,
    rescue: RunningAgent,
) -> None:
    rescue.kill()
    job = start_job(
        "restore_disks", machine.pk, machine.name, RestoreDisksParams(point.pk, target.pk)
    )
    with pytest.raises(AssertionError, match="did not finish"):
        run_until_done(job, limit_seconds=1)
    assert job.steps.get(name="restore_disks").state == "waiting"
    rescue.start()
    run_until_done(job, limit_seconds=30)
    assert job.state == JobState.SUCCEEDED
    assert_holds(rescue.disks["first"], agent.disks["boot"], HEAD_BYTES)


def test_a_rescue_machine_that_goes_down_while_it_is_asked_is_waited_for(
    machine: Machine, target: RestoreTarget, rescue: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told to restart: it shows its own certificate once more, and is gone."""
    Machine.objects.filter(pk=machine.pk).update(port=target.port)
    dial = connection.dial

    class GoesDown:
        def __init__(self, client: AgentClient) -> None:
            self.client = client

        def describe(self) -> MachineDescription:
            try:
                return self.client.describe()
            finally:
                rescue.kill()

    monkeypatch.setattr(
        connection, "dial", lambda *words, **options: GoesDown(dial(*words, **options))
    )
    with pytest.raises(Waiting, match="not responding"):
        wait_for_machine(machine.pk, target.pk)


def test_a_machine_that_got_another_address_is_found_where_a_person_says(
    machine: Machine, target: RestoreTarget, rescue: RunningAgent, agent: RunningAgent
) -> None:
    rescue.kill()
    Machine.objects.filter(pk=machine.pk).update(port=1)
    with pytest.raises(Waiting, match="where the rescue medium ran"):
        wait_for_machine(machine.pk, target.pk)
    found = wait_for_machine(machine.pk, target.pk, [Place("127.0.0.1", agent.port, "typed")])
    assert (found.host, found.port) == ("127.0.0.1", agent.port)


def test_a_third_machine_at_its_address_is_not_waited_for(
    machine: Machine, target: RestoreTarget
) -> None:
    Machine.objects.filter(pk=machine.pk).update(port=target.port)
    RestoreTarget.objects.update(agent_certificate_pem=machine.agent_certificate_pem)
    with pytest.raises(AgentCertificateChanged):
        wait_for_machine(machine.pk, target.pk)
