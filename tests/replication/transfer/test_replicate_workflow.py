"""The replicate workflow: from a real store, over a real second core, into a real store."""

import uuid
from collections.abc import Callable
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from agent.client import AgentClient, CoreCredentials
from agent.errors import AgentRefusedCore
from console.jobs.choices import JobState
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from console.jobs.testing import log_of, run_until_done
from protected_machines.agents.connection import core_credentials
from protected_machines.errors import NotTheOwner
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.ownership import check_owner
from recovery_store.store import Store
from replication.heartbeat import refresh_cores
from replication.models import Pairing, ReplicatedMachine
from replication.transfer import workflow
from replication.transfer.start import replicate_machine, start_due_replications, start_replication
from tests.console.jobs.generic_five import GenericFive, WorkflowCase
from tests.places.agent import RunningAgent
from tests.places.peer_core import PeerCore

TakePoint = Callable[[], RecoveryPoint]


@pytest.fixture
def replicated(outgoing: Pairing, machine: Machine, take_point: TakePoint) -> ReplicatedMachine:
    """A machine with a base image and an incremental that the peer lacks."""
    take_point()
    take_point()
    row = ReplicatedMachine.objects.create(pairing=outgoing, machine=machine)
    return ReplicatedMachine.objects.select_related("machine", "pairing").get(pk=row.pk)


def replicate(replicated: ReplicatedMachine) -> Job:
    return run_until_done(start_replication(replicated), limit_seconds=60)


def peer_points(peer: PeerCore, machine: Machine) -> list[str]:
    return [manifest.point_id for manifest in peer.store.points(str(machine.pk))]


class TestReplicate(GenericFive):
    workflow = workflow.replicate
    copying_steps = ("send_points",)


@pytest.fixture
def case(replicated: ReplicatedMachine, peer: PeerCore, store: Store) -> WorkflowCase:
    machine = replicated.machine

    def world() -> Any:
        # Points that have arrived stay at the target, and so does a part of one, to go on from.
        ours = [manifest.point_id for manifest in store.points(str(machine.pk))]
        theirs = peer_points(peer, machine)
        found = Machine.objects.get(pk=machine.pk)
        row = ReplicatedMachine.objects.get(pk=replicated.pk)
        owners = peer.rows(
            "SELECT owner_core_name, ownership_epoch, kind FROM protected_machines_machine"
        )
        return {
            "machine": (found.kind, found.owner_core_name, found.ownership_epoch),
            "points": ours,
            "target has points of its own": theirs != ours[: len(theirs)],
            "target claims the machine": owners not in ([], [("Test core", 1, "replicated")]),
            "damage": (store.check().findings, peer.store.check().findings),
            "sent only by hearsay": row.last_point_id is not None
            and str(row.last_point_id) not in theirs,
            "error": row.error_code,
        }

    def check_success(job: Job) -> None:
        ours = [manifest.point_id for manifest in store.points(str(machine.pk))]
        assert peer_points(peer, machine) == ours
        replicated.refresh_from_db()
        assert str(replicated.last_point_id) == ours[-1]
        assert (replicated.behind_points, replicated.behind_bytes) == (0, 0)

    return WorkflowCase(lambda: start_replication(replicated), world, check_success, 60)


def test_every_file_arrives_as_it_is(
    replicated: ReplicatedMachine, peer: PeerCore, store: Store
) -> None:
    job = replicate(replicated)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    machine_id = str(replicated.machine_id)
    for manifest in store.points(machine_id):
        peer.store.prove(machine_id, manifest.point_id)
        for disk in manifest.disks:
            ours = store.read_file(machine_id, manifest.point_id, disk.file, 0, disk.file_bytes)
            theirs = peer.store.read_file(
                machine_id, manifest.point_id, disk.file, 0, disk.file_bytes
            )
            assert ours == theirs


def test_the_target_knows_the_machine_and_its_proven_points(
    replicated: ReplicatedMachine, peer: PeerCore
) -> None:
    replicate(replicated)
    machine = replicated.machine
    ((name, kind, owner, certificate),) = peer.rows(
        "SELECT name, kind, owner_core_name, agent_certificate_pem FROM protected_machines_machine"
    )
    assert (name, kind, owner) == (machine.name, "replicated", "Test core")
    assert certificate == machine.agent_certificate_pem
    states = peer.rows("SELECT state FROM protected_machines_recoverypoint")
    assert states == [("proven",), ("proven",)]
    ((last_point, behind),) = peer.rows(
        "SELECT last_point_id, behind_points FROM replication_replicatedmachine"
    )
    assert (uuid.UUID(last_point), behind) == (machine.points.first().pk, 0)


def test_the_agent_answers_the_target_core_afterwards(
    replicated: ReplicatedMachine, peer: PeerCore
) -> None:
    replicate(replicated)
    machine = replicated.machine
    client = AgentClient(
        machine.host, machine.port, core_credentials(), machine.agent_certificate_pem
    )
    assert client.describe().trusts(peer.fingerprint)
    replicated.refresh_from_db()
    assert replicated.trusted_at is not None


def delegation_at(peer: PeerCore) -> tuple[int, str]:
    """The number and the certificate of the delegation that the target core keeps."""
    (kept,) = peer.rows("SELECT number, certificate_pem FROM protected_machines_delegation")
    return kept


def test_the_target_core_keeps_a_delegation_that_can_be_withdrawn(
    replicated: ReplicatedMachine, peer: PeerCore, running_agent: RunningAgent
) -> None:
    replicate(replicated)
    number, first = delegation_at(peer)
    assert number == 1
    machine = replicated.machine
    call_command("withdraw_delegations", machine.name, stdout=StringIO())
    replicate(replicated)
    number, second = delegation_at(peer)
    assert number == 2
    # The target core as a machine's agent sees it that was never told of it.
    identity = peer.home / "identity"
    running_agent.forget_core(peer.fingerprint)
    target = CoreCredentials(identity / "core.pem", identity / "core.key")
    calling = partial(
        AgentClient, machine.host, machine.port, target, machine.agent_certificate_pem
    )
    with pytest.raises(AgentRefusedCore):
        calling(core_name="DR site", delegations_pem=[first]).describe()
    described = calling(core_name="DR site", delegations_pem=[first, second]).describe()
    assert described.trusts(peer.fingerprint)
    # Other tests share the agent, and delegate from number 1 on.
    (running_agent.folder / "state/delegations.json").unlink()


def test_only_what_is_missing_is_sent_the_second_time(
    replicated: ReplicatedMachine, peer: PeerCore, take_point: TakePoint
) -> None:
    replicate(replicated)
    take_point()
    job = replicate(replicated)
    assert job.steps.get(name="send_points").output["sent_points"] == 1
    assert len(peer_points(peer, replicated.machine)) == 3


def test_a_new_point_is_due_and_is_sent_by_the_reconciler(
    replicated: ReplicatedMachine, peer: PeerCore, take_point: TakePoint
) -> None:
    replicate(replicated)
    assert start_due_replications() == 0
    take_point()
    assert start_due_replications() == 1
    assert start_due_replications() == 0
    run_until_done(Job.objects.get(state=JobState.QUEUED))
    assert len(peer_points(peer, replicated.machine)) == 3


def test_a_second_job_of_the_same_machine_is_refused(replicated: ReplicatedMachine) -> None:
    start_replication(replicated)
    with pytest.raises(JobConflict):
        start_replication(replicated)


def test_a_machine_that_is_added_is_sent(
    outgoing: Pairing, peer: PeerCore, machine: Machine, take_point: TakePoint
) -> None:
    take_point()
    replicated, is_new = replicate_machine(machine, outgoing, None)
    assert is_new
    job = run_until_done(Job.objects.get(subject_id=replicated.pk))
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert len(peer_points(peer, machine)) == 1


def test_a_damaged_file_is_named_and_not_sent(
    replicated: ReplicatedMachine, peer: PeerCore, store: Store
) -> None:
    base, _ = store.points(str(replicated.machine_id))
    path = store.get_folder(base.machine_id, base.point_id) / "disk0.vmdk"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    job = replicate(replicated)
    assert job.state == JobState.FAILED
    assert job.error_code == "REPLICATION-DAMAGED-HERE"
    assert "disk0.vmdk" in job.error_text
    assert base.point_id in job.error_text
    assert peer_points(peer, replicated.machine) == []
    replicated.refresh_from_db()
    assert replicated.error_code == "REPLICATION-DAMAGED-HERE"
    assert replicated.next_attempt_at is not None
    assert RecoveryPoint.objects.get(pk=base.point_id).state == "damaged"


def test_a_core_that_does_not_own_the_machine_is_refused_and_learns_who_does(
    replicated: ReplicatedMachine, peer: PeerCore, take_point: TakePoint
) -> None:
    replicate(replicated)
    _fail_over_at_the_peer(peer)
    job = replicate(replicated)
    assert job.state == JobState.FAILED
    assert job.error_code == "REPLICATION-OWNED-ELSEWHERE"
    assert "has been owned by DR site since" in job.error_text
    assert "(ownership epoch 2)" in job.error_text
    machine = Machine.objects.get(pk=replicated.machine_id)
    assert (machine.owner_core_name, machine.ownership_epoch) == ("DR site", 2)
    with pytest.raises(NotTheOwner, match="DR site"):
        take_point()


def test_a_source_that_comes_back_asks_before_it_takes_a_point(
    replicated: ReplicatedMachine, peer: PeerCore, take_point: TakePoint
) -> None:
    replicate(replicated)
    _fail_over_at_the_peer(peer)
    with pytest.raises(NotTheOwner, match="DR site"):
        take_point()


def test_a_source_that_comes_back_learns_it_by_the_status_exchange(
    replicated: ReplicatedMachine, peer: PeerCore
) -> None:
    replicate(replicated)
    _fail_over_at_the_peer(peer)
    refresh_cores()
    machine = Machine.objects.get(pk=replicated.machine_id)
    assert (machine.owner_core_name, machine.ownership_epoch) == ("DR site", 2)
    assert start_due_replications() == 0


def test_a_machine_given_back_with_a_higher_epoch_goes_on(
    replicated: ReplicatedMachine, peer: PeerCore, take_point: TakePoint
) -> None:
    replicate(replicated)
    _fail_over_at_the_peer(peer)
    refresh_cores()
    peer.rows(
        "UPDATE protected_machines_machine SET kind = 'replicated', ownership_epoch = 3, "
        "owner_core_id = source_core_id, owner_core_name = 'Test core'"
    )
    refresh_cores()
    take_point()
    assert replicate(replicated).state == JobState.SUCCEEDED
    assert len(peer_points(peer, replicated.machine)) == 3


def test_an_unreachable_peer_does_not_stop_the_owner(
    replicated: ReplicatedMachine, peer: PeerCore
) -> None:
    peer.stop()
    check_owner(replicated.machine, ask=True)
    assert replicated.machine.is_owned_here


def test_a_pause_on_this_core_is_kept_by_the_reconciler_and_by_the_job(
    replicated: ReplicatedMachine, peer: PeerCore
) -> None:
    replicated.set_paused(True)
    assert start_due_replications() == 0
    job = replicate(replicated)
    assert job.steps.get(name="send_points").output["sent_points"] == 0
    assert peer_points(peer, replicated.machine) == []


def test_a_pause_on_the_target_core_is_said_and_learned(
    replicated: ReplicatedMachine, peer: PeerCore
) -> None:
    peer.rows("UPDATE replication_pairing SET is_paused = 1")
    job = replicate(replicated)
    assert job.error_code == "REPLICATION-PEER-PAUSED"
    refresh_cores()
    replicated.pairing.refresh_from_db()
    assert replicated.pairing.is_paused_by_peer
    assert start_due_replications() == 0


def _fail_over_at_the_peer(peer: PeerCore) -> None:
    """Have the peer own the machine, as its failover would."""
    peer.rows(
        "UPDATE protected_machines_machine SET kind = 'failed_over', ownership_epoch = 2, "
        "owner_core_id = ?, owner_core_name = 'DR site', owned_since = '2026-03-01 12:00:00'",
        peer.core_id,
    )
