"""Commit and roll back: their workflows, buttons, and what the days that were set do."""

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from console.jobs.choices import JobState
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from console.jobs.testing import fail_at, log_of, run_until_done
from protected_machines.choices import MachineKind
from protected_machines.exports.options import VmOptions
from protected_machines.exports.vcenters import connect
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.store import Store
from replication.failback.end import COMMIT, ROLL_BACK, commit_due_failbacks, end_failback
from replication.failback.end_workflow import commit, roll_back
from replication.models import FailbackMachine
from replication.peers.pairing import add_source_core
from tests.console.jobs.generic_five import GenericFive, WorkflowCase
from tests.places.guests import Guests
from tests.places.peer_core import PeerCore
from tests.reading import as_read
from tests.replication.failback.failbacks import FailedOver, hand_back, owner_at, run_here
from tests.replication.rivals import just_before_update

pytestmark = pytest.mark.slow


@pytest.fixture
def failed_over(
    machine: Machine,
    take_point: Callable[[], RecoveryPoint],
    source: PeerCore,
    options: VmOptions,
) -> FailedOver:
    take_point()
    take_point()
    pairing = add_source_core("127.0.0.1", source.port, source.pairing_code)
    return run_here(machine, pairing, options)


@pytest.fixture
def entry(failed_over: FailedOver) -> FailbackMachine:
    """A machine whose failback went well and is not committed; its VM is off."""
    return hand_back(failed_over)


@pytest.fixture
def world(
    failed_over: FailedOver, entry: FailbackMachine, guests: Guests, store: Store
) -> Callable[[], Any]:
    def look() -> Any:
        machine = failed_over.fresh()
        rows = (machine.kind, machine.owner_core_name, machine.vm_moid)
        entry.refresh_from_db()
        return rows, entry.state, guests.names(), len(store.points(str(machine.pk)))

    return look


class TestCommit(GenericFive):
    workflow = commit

    @pytest.fixture
    def case(
        self, failed_over: FailedOver, entry: FailbackMachine, world: Callable[[], Any]
    ) -> WorkflowCase:
        def check_success(job: Job) -> None:
            machine = failed_over.fresh()
            assert machine.kind == MachineKind.REPLICATED
            assert (machine.vcenter, machine.vm_moid, machine.vm_name) == (None, "", "")
            assert world()[1:3] == ("committed", [])

        return WorkflowCase(lambda: end_failback(entry, COMMIT), world, check_success, 60)


class TestRollBack(GenericFive):
    workflow = roll_back

    @pytest.fixture
    def case(
        self,
        failed_over: FailedOver,
        entry: FailbackMachine,
        world: Callable[[], Any],
        source: PeerCore,
    ) -> WorkflowCase:
        def check_success(job: Job) -> None:
            machine = failed_over.fresh()
            assert machine.kind == MachineKind.FAILED_OVER
            assert machine.is_owned_here
            assert machine.vm_name == "db-01"
            assert machine.connection_state == "online"
            # The source core knows it, by the higher epoch.
            assert owner_at(source, machine) == (False, machine.ownership_epoch, "protected")
            assert world()[1:3] == ("rolled_back", ["db-01 poweredOn"])
            newest = machine.points.first()
            assert newest is not None
            assert newest.ownership_epoch == machine.ownership_epoch

        return WorkflowCase(lambda: end_failback(entry, ROLL_BACK), world, check_success, 60)


def test_roll_back_works_while_the_source_is_away(
    failed_over: FailedOver, entry: FailbackMachine, source: PeerCore
) -> None:
    source.stop()
    job = run_until_done(end_failback(entry, ROLL_BACK), limit_seconds=60)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert job.steps.get(name="refuse_source").output == {"is_told": False}
    assert failed_over.fresh().kind == MachineKind.FAILED_OVER


def test_points_of_the_source_are_a_branch_after_a_roll_back(
    failed_over: FailedOver, entry: FailbackMachine
) -> None:
    machine = failed_over.fresh()
    final = machine.points.first()
    assert final is not None
    late = RecoveryPoint.objects.create(
        id=uuid.uuid4(),
        machine=machine,
        taken_at=final.taken_at + timedelta(seconds=9),
        kind="incremental",
        parent_id=final.pk,
        ownership_epoch=machine.ownership_epoch,
        taken_by_core_id=machine.owner_core_id,
        taken_by_core_name=machine.owner_core_name,
        stored_bytes=1,
        manifest_digest="0" * 64,
    )
    run_until_done(end_failback(entry, ROLL_BACK), limit_seconds=60)
    late.refresh_from_db()
    assert not late.is_carried_on
    newest = machine.points.carried_on().first()
    assert newest is not None
    assert newest.parent_id == final.pk


def test_a_vm_that_somebody_started_is_not_removed(
    failed_over: FailedOver, entry: FailbackMachine, guests: Guests
) -> None:
    machine = failed_over.fresh()
    assert machine.vcenter is not None
    with connect(machine.vcenter) as session:
        session.get_vm(machine.vm_moid).power_on()
    job = run_until_done(end_failback(entry, COMMIT), limit_seconds=30)
    assert (job.state, job.error_code) == (JobState.FAILED, "FAILBACK-VM-RUNS")
    assert guests.names() == ["db-01 poweredOn"]
    entry.refresh_from_db()
    assert entry.state == "failed_back"


def set_days(entry: FailbackMachine) -> None:
    """Have the failback be committed automatically after a week."""
    entry.failback.commit_days = 7
    entry.failback.save(update_fields=["commit_days"])


def test_a_failback_waits_until_someone_commits_it(entry: FailbackMachine, guests: Guests) -> None:
    assert entry.commit_at is None
    assert commit_due_failbacks(timezone.now() + timedelta(days=3650)) == 0
    assert guests.names() == ["db-01 poweredOff"]


def test_the_days_that_were_set_commit_it_once(entry: FailbackMachine) -> None:
    set_days(entry)
    now = timezone.now()
    assert entry.commit_at is not None
    assert commit_due_failbacks(now) == 0
    assert commit_due_failbacks(entry.commit_at - timedelta(seconds=1)) == 0
    assert commit_due_failbacks(entry.commit_at) == 1
    assert commit_due_failbacks(entry.commit_at) == 0
    job = run_until_done(Job.objects.get(kind="failback_commit"), limit_seconds=30)
    assert job.state == JobState.SUCCEEDED
    assert job.requested_by_name == "the system"
    assert commit_due_failbacks(entry.commit_at) == 0


def test_a_due_commit_that_fails_is_tried_again_after_an_hour(
    failed_over: FailedOver, entry: FailbackMachine
) -> None:
    set_days(entry)
    machine = failed_over.fresh()
    assert machine.vcenter is not None
    with connect(machine.vcenter) as session:
        session.get_vm(machine.vm_moid).power_on()
    FailbackMachine.objects.update(failed_back_at=timezone.now() - timedelta(days=8))
    now = timezone.now()
    assert commit_due_failbacks(now) == 1
    job = run_until_done(Job.objects.get(kind="failback_commit"), limit_seconds=30)
    assert job.error_code == "FAILBACK-VM-RUNS"
    assert commit_due_failbacks(now + timedelta(minutes=59)) == 0
    assert commit_due_failbacks(now + timedelta(minutes=61)) == 1


def test_one_end_excludes_the_other(entry: FailbackMachine) -> None:
    end_failback(entry, COMMIT)
    with pytest.raises(JobConflict, match="is in progress"):
        end_failback(entry, ROLL_BACK)


def buttons_of(page: str) -> set[str]:
    return {text.strip() for text in re.findall(r">([^<]*)</button>", page)}


def test_the_page_has_the_buttons_and_they_work_without_script(
    signed_in: Client, entry: FailbackMachine
) -> None:
    url = reverse("replication:failback", args=[entry.failback_id])
    page = as_read(signed_in.get(url))
    assert "Failed back, not committed" in page
    assert buttons_of(page) >= {"Commit", "Roll back"}
    assert "<html" not in signed_in.get(url, headers={"HX-Request": "true"}).content.decode()
    commit = reverse("replication:failback-commit", args=[entry.failback_id, entry.pk])
    assert signed_in.get(commit).status_code == 405
    answer = signed_in.post(commit)
    assert (answer.status_code, answer["Location"]) == (303, url)
    assert signed_in.post(commit).status_code == 409
    run_until_done(Job.objects.get(kind="failback_commit"), limit_seconds=30)
    page = as_read(signed_in.get(url))
    assert "Committed" in page
    assert "Roll back" not in buttons_of(page)
    refused = signed_in.post(
        reverse("replication:failback-roll-back", args=[entry.failback_id, entry.pk])
    )
    assert refused.status_code == 409
    assert "The failback is committed: the VM has been removed." in refused.content.decode()


def test_nobody_without_a_session_ends_it(client: Client, entry: FailbackMachine) -> None:
    for name in ("failback-commit", "failback-roll-back"):
        url = reverse(f"replication:{name}", args=[entry.failback_id, entry.pk])
        assert client.post(url).status_code == 302
    assert client.get(reverse("replication:failback", args=[entry.failback_id])).status_code == 302
    assert not Job.objects.exists()


def test_the_replication_page_shows_it_and_its_page(
    signed_in: Client, entry: FailbackMachine
) -> None:
    page = signed_in.get(reverse("replication:page")).content.decode()
    assert "Failed back, not committed" in page
    assert reverse("replication:failback", args=[entry.failback_id]) in page
    assert "1 failed back, not committed" in page
    assert "This machine has failed back, but that is not committed yet. Commit it first." in page


def test_a_roll_back_that_fails_leaves_it_failed_back(
    failed_over: FailedOver, entry: FailbackMachine, guests: Guests
) -> None:
    with fail_at("wait_for_agent"):
        job = run_until_done(end_failback(entry, ROLL_BACK), limit_seconds=60)
    assert job.state == JobState.FAILED
    assert guests.names() == ["db-01 poweredOff"]
    again = run_until_done(end_failback(entry, ROLL_BACK), limit_seconds=60)
    assert again.state == JobState.SUCCEEDED, log_of(again)


def test_only_a_machine_that_failed_back_is_rolled_back(
    failed_over: FailedOver, entry: FailbackMachine
) -> None:
    job = end_failback(entry, ROLL_BACK)
    Machine.objects.filter(pk=failed_over.machine.pk).update(kind=MachineKind.REPLICATED)
    run_until_done(job)
    assert (job.state, job.error_code) == (JobState.FAILED, "FAILBACK-NOT-FAILED-BACK")
    assert failed_over.fresh().kind == MachineKind.REPLICATED


def test_an_owner_who_changes_while_it_is_rolled_back_wins(
    failed_over: FailedOver, entry: FailbackMachine, guests: Guests
) -> None:
    machines = Machine.objects.filter(pk=failed_over.machine.pk)
    owner = failed_over.fresh().owner_core_name
    with just_before_update(
        "take_ownership", "owner_core_id", lambda: machines.update(ownership_epoch=70)
    ):
        job = run_until_done(end_failback(entry, ROLL_BACK))
    assert (job.state, job.error_code) == (JobState.FAILED, "FAILBACK-OWNER-CHANGED"), log_of(job)
    assert failed_over.fresh().owner_core_name == owner
    assert guests.names() == ["db-01 poweredOff"]
