"""Seed drives: the generic five of the copy, and a drive that goes to a real target core."""

import uuid
from pathlib import Path

import pytest

from console.jobs.acts import start_job
from console.jobs.choices import TERMINAL, JobState
from console.jobs.models import Job
from console.jobs.testing import log_of, run_until_done
from protected_machines.archives.workflow import ArchiveParams
from recovery_store.checking import check
from recovery_store.store import Store
from replication.choices import SeedDriveState
from replication.heartbeat import refresh_core
from replication.models import Pairing, ReplicatedMachine, SeedDrive
from replication.seed_drives.workflow import SeedDriveParams, seed_drive
from replication.transfer.start import start_due_replications, start_replication
from tests.console.jobs.generic_five import GenericFive, WorkflowCase
from tests.factories import NOON
from tests.places.peer_core import PeerCore
from tests.places.waiting import wait_until
from tests.protected_machines.archives.archived import Archived, files_below, make_archived
from tests.replication.rows import make_pairing, make_replicated

pytestmark = pytest.mark.django_db

CONSUME = """
from console.jobs.acts import start_job
from protected_machines.archives.import_workflow import ImportParams
import uuid
print(start_job("import_archive", uuid.UUID({id!r}), "m", ImportParams({folder!r})).id.hex)
"""


@pytest.fixture
def archived(db: None, store: Store, tmp_path: Path) -> Archived:
    return make_archived(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "usb"
    folder.mkdir()
    return folder


def start(replicated: ReplicatedMachine, folder: Path) -> Job:
    params = SeedDriveParams(replicated.pk, str(folder))
    return start_job("seed_drive", replicated.pk, replicated.machine.name, params)


@pytest.fixture
def case(archived: Archived, disk: Path) -> WorkflowCase:
    replicated = make_replicated(make_pairing(), archived.machine)

    def check_success(job: Job) -> None:
        drive = SeedDrive.objects.get()
        assert (drive.pk, drive.state) == (job.pk, SeedDriveState.OUTSTANDING)
        assert drive.newest_point_id == archived.points[-1].pk
        assert drive.points == 2
        assert drive.stored_bytes == sum(point.stored_bytes for point in archived.points)
        assert not check(Store(disk / "seed")).findings

    return WorkflowCase(
        start=lambda: start(replicated, disk / "seed"),
        world=lambda: (files_below(disk), set(SeedDrive.objects.values_list("pk", "state"))),
        check_success=check_success,
    )


class TestSeedDrive(GenericFive):
    workflow = seed_drive
    copying_steps = ("copy_points",)


def test_a_machine_has_one_outstanding_seed_drive(archived: Archived, disk: Path) -> None:
    replicated = make_replicated(make_pairing(), archived.machine)
    run_until_done(start(replicated, disk / "seed"))
    job = run_until_done(start(replicated, disk / "other"))
    assert job.error_code == "REPLICATION-SEED-DRIVE-OUTSTANDING", log_of(job)
    assert SeedDrive.objects.count() == 1
    assert not (disk / "other").exists()


def test_two_machines_share_a_drive(archived: Archived, disk: Path, tmp_path: Path) -> None:
    pairing = make_pairing()
    other = make_archived(tmp_path, "web-01")
    for each in (archived, other):
        job = run_until_done(start(make_replicated(pairing, each.machine), disk / "seed"))
        assert job.state == JobState.SUCCEEDED, log_of(job)
    assert len(Store(disk / "seed").machine_ids()) == 2


@pytest.fixture
def replicated(archived: Archived, outgoing: Pairing) -> ReplicatedMachine:
    """The machine on the way to a real target core; its agent was told already."""
    return make_replicated(outgoing, archived.machine, trusted_at=NOON)


def consume(peer: PeerCore, machine_id: object, folder: Path) -> None:
    queued = peer.manage("shell", "-c", CONSUME.format(id=str(machine_id), folder=str(folder)))
    job_id = queued.split()[-1]

    def state() -> str:
        return str(peer.rows("SELECT state FROM jobs_job WHERE id = ?", job_id)[0][0])

    wait_until(lambda: state() in TERMINAL, "the drive to be consumed", limit_seconds=120)
    log = peer.rows(
        "SELECT number, step, type, payload FROM jobs_jobevent WHERE job_id = ?", job_id
    )
    assert state() == JobState.SUCCEEDED, "\n".join(map(str, log))


def held(peer: PeerCore, machine_id: object) -> list[str]:
    return [point.point_id for point in peer.store.points(str(machine_id))]


def test_nothing_is_sent_until_the_drive_is_consumed_and_then_only_what_is_newer(
    replicated: ReplicatedMachine, archived: Archived, peer: PeerCore, disk: Path, tmp_path: Path
) -> None:
    pairing, machine = replicated.pairing, archived.machine
    run_until_done(start(replicated, disk / "seed"))
    archived.take_point()
    assert start_due_replications() == 0
    forced = run_until_done(start_replication(replicated), limit_seconds=60)
    assert forced.steps.get(name="send_points").output["sent_points"] == 0
    assert held(peer, machine.pk) == []
    refresh_core(pairing)
    assert SeedDrive.objects.get().state == SeedDriveState.OUTSTANDING

    for _ in range(2):
        consume(peer, machine.pk, disk / "seed")
    refresh_core(pairing)
    drive = SeedDrive.objects.get()
    assert drive.state == SeedDriveState.CONSUMED
    assert drive.ended_at is not None
    replicated.refresh_from_db()
    assert replicated.last_point_id == archived.points[1].pk
    shown = peer.rows("SELECT last_point_id FROM replication_replicatedmachine")
    assert [uuid.UUID(point_id) for (point_id,) in shown] == [archived.points[1].pk]

    assert start_due_replications() == 1
    job = run_until_done(Job.objects.open().get(), limit_seconds=60)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert job.steps.get(name="send_points").output["sent_points"] == 1
    assert held(peer, machine.pk) == [str(point.pk) for point in archived.points]
    archived.assert_same_disks(peer.store, tmp_path)


def test_a_drive_consumed_by_a_core_that_was_never_told_of_the_machine(
    replicated: ReplicatedMachine, archived: Archived, peer: PeerCore, disk: Path
) -> None:
    run_until_done(start(replicated, disk / "seed"))
    consume(peer, archived.machine.pk, disk / "seed")
    kinds = peer.rows("SELECT kind FROM protected_machines_machine")
    assert kinds == [("recovery_points_only",)]
    refresh_core(replicated.pairing)
    assert SeedDrive.objects.get().state == SeedDriveState.CONSUMED
    assert peer.rows("SELECT kind FROM protected_machines_machine") == [("replicated",)]


def test_an_abandoned_drive_s_points_go_over_the_link(
    replicated: ReplicatedMachine, archived: Archived, peer: PeerCore, disk: Path
) -> None:
    job = run_until_done(start(replicated, disk / "seed"))
    drive = SeedDrive.objects.get(pk=job.pk)
    assert drive.end(SeedDriveState.ABANDONED, archived.points[-1].taken_at)
    assert not drive.end(SeedDriveState.CONSUMED, archived.points[-1].taken_at)
    assert start_due_replications() == 1
    job = run_until_done(Job.objects.open().get(), limit_seconds=60)
    assert job.steps.get(name="send_points").output["sent_points"] == 2, log_of(job)
    assert held(peer, archived.machine.pk) == [str(point.pk) for point in archived.points]


def test_points_that_came_by_an_archive_count_as_sent(
    replicated: ReplicatedMachine, archived: Archived, peer: PeerCore, disk: Path
) -> None:
    params = ArchiveParams(str(disk / "archive"))
    run_until_done(start_job("archive", archived.machine.pk, "db-01", params))
    consume(peer, archived.machine.pk, disk / "archive")
    job = run_until_done(start_replication(replicated), limit_seconds=60)
    assert job.steps.get(name="send_points").output["sent_points"] == 0, log_of(job)
    replicated.refresh_from_db()
    assert (replicated.last_point_id, replicated.behind_points) == (archived.points[-1].pk, 0)
