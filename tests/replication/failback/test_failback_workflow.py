"""The failback workflow: two real stores, a real source core, vSphere simulator and agents."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from console.jobs.choices import EventType, JobState
from console.jobs.models import Job
from console.jobs.testing import fail_at, log_of, run_until_done
from protected_machines.agents.connection import dial
from protected_machines.choices import MachineKind
from protected_machines.exports.options import VmOptions
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.store import Store
from replication.failback.workflow import failback
from replication.models import FailbackMachine
from replication.peers.pairing import add_source_core
from tests.console.jobs.generic_five import GenericFive, WorkflowCase
from tests.places.agent import MIB, RunningAgent, overwrite
from tests.places.guests import Guests
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

pytestmark = pytest.mark.slow


@pytest.fixture
def failed_over(
    machine: Machine,
    take_point: Callable[[], RecoveryPoint],
    source: PeerCore,
    options: VmOptions,
) -> FailedOver:
    """A machine that runs here; its source core was set up anew and has nothing of it."""
    take_point()
    take_point()
    pairing = add_source_core("127.0.0.1", source.port, source.pairing_code)
    return run_here(machine, pairing, options)


@pytest.fixture
def replicating(failed_over: FailedOver, source: PeerCore) -> Iterator[None]:
    with replicating_back(source, failed_over):
        yield


@pytest.fixture
def start(failed_over: FailedOver, rescue: RunningAgent, replicating: None) -> Callable[[], Job]:
    return lambda: start_failback(failed_over, rescue.port)


class TestFailback(GenericFive):
    workflow = failback
    copying_steps = (
        "force_catch_up_point",
        "send_points",
        "last_running_point",
        "send_last_running_point",
        "final_point",
        "send_final_point",
    )


@pytest.fixture
def case(
    failed_over: FailedOver,
    start: Callable[[], Job],
    running_agent: RunningAgent,
    rescue: RunningAgent,
    source: PeerCore,
    guests: Guests,
    store: Store,
) -> WorkflowCase:
    machine_id = failed_over.machine.pk

    def world() -> Any:
        machine = failed_over.fresh()
        # The source core is told who owns the machine; its points stay on both sides.
        at_source = owner_at(source, machine)
        wait_until(
            lambda: (
                not source.rows(
                    "SELECT id FROM jobs_job WHERE state IN ('queued', 'running', 'unwinding')"
                )
            ),
            "the end of the source core's jobs",
            60,
        )
        agent = dial(machine)
        here = [manifest.point_id for manifest in store.points(str(machine_id))]
        there = [manifest.point_id for manifest in source.store.points(str(machine_id))]
        return {
            "machine": (machine.kind, machine.is_owned_here, machine.host, machine.port),
            "vm": (machine.vcenter_id, machine.vm_moid, machine.vm_name, guests.names()),
            "source disagrees": at_source is not None
            and at_source[:2] != (not machine.is_owned_here, machine.ownership_epoch),
            "points of before": here[:2],
            "source has points of its own": there != here[: len(there)],
            "damage": (store.check().findings, source.store.check().findings),
            "failed back": FailbackMachine.objects.filter(failed_back_at__isnull=False).count(),
            "held": [
                entry.vm["held"] for entry in FailbackMachine.objects.all() if "held" in entry.vm
            ],
            "frozen, watched": (agent.release_hold(), agent.end_watch()),
        }

    def check_success(job: Job) -> None:
        machine = failed_over.fresh()
        assert machine.kind == MachineKind.FAILED_BACK
        assert not machine.is_owned_here
        assert owner_at(source, machine) == (True, machine.ownership_epoch, "protected")
        assert guests.names() == ["db-01 poweredOff"]
        for name, key in (("first", "boot"), ("second", "data")):
            data = running_agent.disks[key].read_bytes()
            assert rescue.disks[name].read_bytes()[: len(data)] == data
        assert rescue.has_restarted()
        here = [manifest.point_id for manifest in store.points(str(machine_id))]
        assert here == [manifest.point_id for manifest in source.store.points(str(machine_id))]
        assert job.steps.get(name="replicate_again").output == {
            "kind": "incremental",
            "builds_on_final_point": True,
        }
        assert FailbackMachine.objects.get(machine=machine).state == "failed_back"

    return WorkflowCase(start, world, check_success, 60)


def test_what_is_written_until_the_freeze_is_on_the_restored_machine(
    failed_over: FailedOver,
    start: Callable[[], Job],
    running_agent: RunningAgent,
    rescue: RunningAgent,
) -> None:
    job = start()
    overwrite(running_agent.disks["boot"], MIB, b"written at the DR site" * 100)
    run_until_done(job, limit_seconds=60)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    data = running_agent.disks["boot"].read_bytes()
    assert rescue.disks["first"].read_bytes()[: len(data)] == data


@pytest.fixture
def watching(running_agent: RunningAgent) -> Iterator[RunningAgent]:
    """The machine's agent, told what is written to its disks after a watched point."""
    running_agent.module = "tests.agent.watching_agent"
    running_agent.restart()
    yield running_agent
    running_agent.module = "agent"
    running_agent.restart()


def write(agent: RunningAgent, data: bytes) -> None:
    overwrite(agent.disks["boot"], 7 * 65536, data)
    Path(f"{agent.disks['boot']}.notes").write_text("7 1\n")


def notes_of(job: Job, step: str) -> list[str]:
    return [event.payload["text"] for event in job.events.filter(step=step, type=EventType.NOTE)]


def test_a_watched_machine_is_frozen_for_what_was_written_since_only(
    failed_over: FailedOver,
    watching: RunningAgent,
    start: Callable[[], Job],
    rescue: RunningAgent,
) -> None:
    job = start()
    with before("final_point", lambda: write(watching, b"since the last running point")):
        run_until_done(job, limit_seconds=60)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    data = watching.disks["boot"].read_bytes()
    assert rescue.disks["first"].read_bytes()[: len(data)] == data
    assert notes_of(job, "last_running_point") == notes_of(job, "final_point") == []
    log = (watching.folder / "agent.log").read_text()
    assert "key=boot is_delta=True read_grains=1 " in log
    assert "key=data is_delta=True read_grains=0 " in log


def test_a_watch_that_was_lost_costs_time_only(
    failed_over: FailedOver,
    watching: RunningAgent,
    start: Callable[[], Job],
    rescue: RunningAgent,
) -> None:
    def lose() -> None:
        write(watching, b"since the last running point")
        watching.restart()

    job = start()
    with before("final_point", lose):
        run_until_done(job, limit_seconds=60)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    data = watching.disks["boot"].read_bytes()
    assert rescue.disks["first"].read_bytes()[: len(data)] == data
    assert notes_of(job, "final_point") == [
        "Whole disks were read while the machine was frozen: no earlier point was watched."
    ]


def test_a_failback_that_is_taken_back_ends_the_watch(
    failed_over: FailedOver, watching: RunningAgent, start: Callable[[], Job]
) -> None:
    seen: list[bool] = []
    mark = Path(f"{watching.disks['boot']}.watched")
    job = start()
    with (
        before("send_last_running_point", lambda: seen.append(mark.exists())),
        fail_at("restore_running_delta"),
    ):
        run_until_done(job, limit_seconds=60)
    assert job.state == JobState.FAILED, log_of(job)
    assert seen == [True]
    assert not mark.exists()
