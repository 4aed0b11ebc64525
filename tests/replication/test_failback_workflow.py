"""The failback workflow: two real stores, a real source core, vSphere simulator and agents."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from console.jobs.choices import JobState
from console.jobs.models import Job
from console.jobs.testing import log_of, run_until_done
from protected_machines.choices import MachineKind
from protected_machines.exports import VmOptions
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.store import Store
from replication.models import FailbackMachine
from replication.pairing import add_source_core
from replication.workflows.failback import WORKFLOW
from tests.console.jobs.generic_five import GenericFive, WorkflowCase
from tests.protected_machines.conftest import MIB, AgentProcess, overwrite
from tests.replication.failbacks import (
    FailedOver,
    owner_at,
    replicating_back,
    run_here,
    start_failback,
)
from tests.replication.guests import Guests
from tests.replication.peer_core import ADMINISTRATOR, PeerCore

pytestmark = pytest.mark.live


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
    pairing = add_source_core("127.0.0.1", source.port, *ADMINISTRATOR)
    return run_here(machine, pairing, options)


@pytest.fixture
def replicating(failed_over: FailedOver, source: PeerCore) -> Iterator[None]:
    with replicating_back(source, failed_over):
        yield


@pytest.fixture
def start(failed_over: FailedOver, rescue: AgentProcess, replicating: None) -> Callable[[], Job]:
    return lambda: start_failback(failed_over, rescue.port)


class TestFailback(GenericFive):
    workflow = WORKFLOW


@pytest.fixture
def case(
    failed_over: FailedOver,
    start: Callable[[], Job],
    running_agent: AgentProcess,
    rescue: AgentProcess,
    source: PeerCore,
    guests: Guests,
    store: Store,
) -> WorkflowCase:
    machine_id = failed_over.machine.pk

    def world() -> Any:
        machine = failed_over.fresh()
        owner = (machine.kind, machine.is_owned_here, machine.host, machine.vm_moid)
        return owner, guests.names(), FailbackMachine.objects.filter(state="failed_back").count()

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
    running_agent: AgentProcess,
    rescue: AgentProcess,
) -> None:
    job = start()
    overwrite(running_agent.disks["boot"], MIB, b"written at the DR site" * 100)
    run_until_done(job, limit_seconds=60)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    data = running_agent.disks["boot"].read_bytes()
    assert rescue.disks["first"].read_bytes()[: len(data)] == data
