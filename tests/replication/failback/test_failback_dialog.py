"""The dialog Failback: quote, findings, and the start of one failback however often it is asked."""

import re
import uuid

import pytest
from django.test import Client
from django.urls import reverse

from console.jobs import engine
from console.jobs.acts import start_job
from console.jobs.choices import JobState
from console.jobs.models import Job
from console.jobs.testing import run_until_done
from protected_machines.choices import MachineKind, PointKind
from protected_machines.models import Machine
from protected_machines.points.workflow import SnapshotParams
from replication import drafts
from replication.models import Failback, Pairing, ReplicatedMachine
from replication.peers.credentials import seal
from tests.factories import make_machine, make_vcenter
from tests.places.agent import RESCUE_CODE, RunningAgent
from tests.places.peer_core import PeerCore
from tests.reading import as_read
from tests.replication.rows import make_replicated

HTMX = {"HX-Request": "true"}


def address_of(row: ReplicatedMachine) -> str:
    return reverse("replication:machine-failback", args=[row.pk])


def values_of(row: ReplicatedMachine, rescue: RunningAgent, **changes: str) -> dict[str, str]:
    """What a browser sends from the filled dialog."""
    prefix = str(row.machine_id)
    return {
        f"{prefix}-is_chosen": "on",
        f"{prefix}-host": changes.get("host", "127.0.0.1"),
        f"{prefix}-port": changes.get("port", str(rescue.port)),
        f"{prefix}-code": changes.get("code", RESCUE_CODE),
        "commit_days": changes.get("commit_days", "7"),
        "reason": "The site is repaired.",
        "request_id": changes.get("request_id", str(uuid.uuid4())),
    }


def test_it_is_a_page_and_a_fragment(signed_in: Client, running_here: ReplicatedMachine) -> None:
    page = signed_in.get(address_of(running_here)).content.decode()
    assert "<html" in page
    fragment = signed_in.get(address_of(running_here), headers=HTMX).content.decode()
    assert "<html" not in fragment
    for text in ("Start Failback", "Freeze the machine", "Rescue machine", "Estimate"):
        assert text in fragment
    core = reverse("replication:pairing-failback", args=[running_here.pairing_id])
    assert "db-01" in signed_in.get(core, headers=HTMX).content.decode()


def test_nobody_without_a_session_sees_it(client: Client, running_here: ReplicatedMachine) -> None:
    assert client.get(address_of(running_here)).status_code == 302
    assert client.post(address_of(running_here)).status_code == 302


def test_the_quote_says_bytes_and_times_before_anything_starts(
    signed_in: Client, running_here: ReplicatedMachine
) -> None:
    page = as_read(signed_in.get(address_of(running_here), headers=HTMX))
    quote = page[page.index('id="failback-quote"') :]
    here_bytes = sum(point.stored_bytes for point in running_here.machine.points.all())
    said = re.search(r"To send</dt> <dd> (\d+\.\d) MiB", quote)
    assert said is not None
    # What is here, and at most as much again that is still to be written.
    assert here_bytes * 0.95 < float(said[1]) * 2**20 < here_bytes * 2
    assert "in 5 recovery points, including a base image" in quote
    assert "Copying</dt> <dd> about a minute" in quote
    assert re.search(r"Downtime</dt> <dd> about \d+", quote)
    assert "FAILBACK-NO-COMMON-POINT" in page
    assert "has no recovery point that the newest one builds on" in page
    assert 'aria-disabled="true" title="db-01: At DR site, start a machine from the' in page
    assert not Job.objects.filter(kind="failback").exists()


@pytest.fixture
def without_points(running_here: ReplicatedMachine) -> ReplicatedMachine:
    """A second machine that runs here, of which no recovery point is left."""
    machine = make_machine(
        name="web-01",
        host="192.0.2.9",
        kind=MachineKind.FAILED_OVER,
        source_core_id=running_here.pairing.peer_core_id,
        vcenter=make_vcenter(name="Second"),
        vm_moid="vm-2",
        vm_name="web-01",
    )
    return make_replicated(running_here.pairing, machine)


def dialog_of_all(signed_in: Client, row: ReplicatedMachine) -> str:
    address = reverse("replication:pairing-failback", args=[row.pairing_id])
    return as_read(signed_in.get(address, headers=HTMX))


def test_no_quote_is_given_while_a_chosen_machine_cannot_be_judged(
    signed_in: Client, running_here: ReplicatedMachine, without_points: ReplicatedMachine
) -> None:
    page = dialog_of_all(signed_in, running_here)
    assert "Not known for every selected machine" in page
    assert "To send</dt>" not in page


def test_machines_that_are_not_listed_are_counted(
    signed_in: Client,
    running_here: ReplicatedMachine,
    without_points: ReplicatedMachine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drafts, "MACHINES_SHOWN", 1)
    page = dialog_of_all(signed_in, running_here)
    assert "1 more machine that runs here is not listed" in page
    assert f"{running_here.machine_id}-host" in page
    assert f"{without_points.machine_id}-host" not in page


def test_nothing_is_said_of_disks_that_nobody_looked_at(
    signed_in: Client, running_here: ReplicatedMachine
) -> None:
    page = signed_in.get(address_of(running_here), headers=HTMX).content.decode()
    assert "shown once you have entered each rescue machine" in page
    assert "are blank" not in page


def test_failback_without_a_reason_is_refused_and_says_what_is_wanted(
    signed_in: Client, running_here: ReplicatedMachine, rescue: RunningAgent
) -> None:
    values = {**values_of(running_here, rescue), "reason": ""}
    checked = signed_in.post(address_of(running_here), {**values, "check": "1"}, headers=HTMX)
    assert b"Say why this is done." not in checked.content

    refused = signed_in.post(address_of(running_here), values, headers=HTMX)
    assert refused.status_code == 422
    assert b"Say why this is done." in refused.content
    assert not Failback.objects.exists()


def test_checking_shows_the_disks_and_starts_nothing(
    signed_in: Client, running_here: ReplicatedMachine, rescue: RunningAgent
) -> None:
    values = {**values_of(running_here, rescue), "check": "1"}
    answer = signed_in.post(address_of(running_here), values, headers=HTMX)
    page = as_read(answer)
    assert answer.status_code == 200
    assert "which is blank" in page
    assert re.search(r'button-main" type="submit">\s*Start Failback', page)
    assert not Failback.objects.exists()


def test_start_begins_one_failback_however_often_it_is_sent(
    signed_in: Client, running_here: ReplicatedMachine, rescue: RunningAgent
) -> None:
    values = values_of(running_here, rescue)
    first = signed_in.post(address_of(running_here), values)
    again = signed_in.post(address_of(running_here), values)
    failback = Failback.objects.get()
    url = reverse("replication:failback", args=[failback.pk])
    assert (first.status_code, first["Location"]) == (303, url)
    assert (again.status_code, again["Location"]) == (303, url)
    job = Job.objects.get(kind="failback")
    assert job.group_id == failback.pk
    entry = failback.machines.get()
    assert entry.quote["send_bytes"] > 1_000_000
    assert entry.rescue_port == rescue.port
    page = signed_in.get(url).content.decode()
    assert "Waiting" in page
    assert "The site is repaired." in page
    # A second person comes too late.
    late = signed_in.post(address_of(running_here), values_of(running_here, rescue))
    assert late.status_code == 422
    assert "FAILBACK-JOB-OPEN" in late.content.decode()


def test_a_snapshot_that_is_under_way_is_waited_for(
    signed_in: Client, running_here: ReplicatedMachine, rescue: RunningAgent
) -> None:
    machine = running_here.machine
    params = SnapshotParams(kind=PointKind.INCREMENTAL)
    snapshot = start_job("snapshot", machine.pk, machine.name, params)
    started = signed_in.post(address_of(running_here), values_of(running_here, rescue))
    assert started.status_code == 303
    job = Job.objects.get(kind="failback")
    engine.run_job(job.pk)
    step = job.steps.get(name="begin_failback")
    assert (step.state, step.note) == ("waiting", "Snapshot of db-01 has to finish first.")
    Job.objects.filter(pk=snapshot.pk).update(state=JobState.SUCCEEDED)
    # It goes on then, and fails: there is no VM of it in this test.
    assert run_until_done(job).is_exclusive


def test_a_wrong_code_is_tried_once(
    signed_in: Client, running_here: ReplicatedMachine, rescue: RunningAgent
) -> None:
    values = values_of(running_here, rescue, code="WRONG-CODE-0000")
    for _ in range(7):
        answer = signed_in.post(address_of(running_here), {**values, "check": "1"}, headers=HTMX)
        assert "AGENT-PAIRING-CODE-WRONG" in answer.content.decode()
    right = values_of(running_here, rescue)
    assert signed_in.post(address_of(running_here), right).status_code == 303


def test_a_disk_that_is_too_small_says_by_how_much(
    signed_in: Client, running_here: ReplicatedMachine, rescue: RunningAgent
) -> None:
    rescue.kill()
    for path in rescue.disks.values():
        path.write_bytes(bytes(1024 * 1024))
    rescue.start()
    answer = signed_in.post(address_of(running_here), values_of(running_here, rescue))
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "AGENT-DISK-TOO-SMALL" in page
    assert "too small by 1048576 bytes" in page
    assert not Failback.objects.exists()


def test_a_machine_that_runs_its_own_system_is_not_overwritten(
    signed_in: Client, running_here: ReplicatedMachine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = RunningAgent(tmp_path_factory.mktemp("other"), code=RESCUE_CODE)
    other.add_disk("boot")
    other.start()
    try:
        answer = signed_in.post(address_of(running_here), values_of(running_here, other))
    finally:
        other.kill()
    assert answer.status_code == 422
    assert "RESTORE-NOT-A-RESCUE-MACHINE" in answer.content.decode()


def test_a_source_that_is_away_is_said(
    signed_in: Client, running_here: ReplicatedMachine, peer: PeerCore, rescue: RunningAgent
) -> None:
    peer.stop()
    answer = signed_in.post(address_of(running_here), values_of(running_here, rescue))
    assert answer.status_code == 422
    assert "FAILBACK-SOURCE-AWAY" in answer.content.decode()


def test_a_source_that_is_another_core_offers_to_pair_anew(
    signed_in: Client, running_here: ReplicatedMachine
) -> None:
    Pairing.objects.update(sealed_secret=seal("another secret"))
    page = signed_in.get(address_of(running_here), headers=HTMX).content.decode()
    assert "Add Source Core" in page
    assert "is not the core that this core was paired with" in page


def test_what_is_no_failed_over_machine_is_refused(
    signed_in: Client, running_here: ReplicatedMachine, rescue: RunningAgent
) -> None:
    owner_id = running_here.pairing.peer_core_id
    Machine.objects.update(kind=MachineKind.FAILED_BACK, owner_core_id=owner_id)
    assert signed_in.get(address_of(running_here)).status_code == 409
    answer = signed_in.post(address_of(running_here), values_of(running_here, rescue))
    assert answer.status_code == 422
    assert "FAILBACK-NOT-FAILED-OVER" in answer.content.decode()


def test_days_out_of_range_are_refused(
    signed_in: Client, running_here: ReplicatedMachine, rescue: RunningAgent
) -> None:
    values = values_of(running_here, rescue, commit_days="0")
    assert signed_in.post(address_of(running_here), values).status_code == 422
    assert not Failback.objects.exists()
