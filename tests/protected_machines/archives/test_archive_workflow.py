"""The archive workflow: the generic five with a real store and a real folder, and its faults."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from console.jobs.acts import cancel_job, start_job
from console.jobs.choices import JobState
from console.jobs.models import Job
from console.jobs.testing import log_of, run_until_done
from protected_machines.archives import steps
from protected_machines.archives.workflow import ArchiveParams, archive
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.checking import check
from recovery_store.store import Store
from tests.console.jobs.generic_five import GenericFive, WorkflowCase
from tests.mounting import mounted_tmpfs
from tests.places.agent import MIB
from tests.protected_machines.archives.archived import Archived, damage, files_below, make_archived

pytestmark = pytest.mark.django_db


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder instead of a removable disk."""
    folder = tmp_path / "usb"
    folder.mkdir()
    return folder


@pytest.fixture
def archived(db: None, store: Store, tmp_path: Path) -> Archived:
    return make_archived(tmp_path)


def start(machine: Machine, folder: Path, point: RecoveryPoint | None = None) -> Job:
    params = ArchiveParams(str(folder), point.pk if point else None)
    return start_job("archive", machine.pk, machine.name, params)


@pytest.fixture
def case(archived: Archived, disk: Path, tmp_path: Path) -> WorkflowCase:
    machine, points = archived.machine, archived.points

    def check_success(job: Job) -> None:
        store = Store(disk / "archive")
        assert not check(store).findings
        assert {point.point_id for point in store.points(str(machine.pk))} == {
            str(point.pk) for point in points
        }
        archived.assert_same_disks(store, tmp_path)

    return WorkflowCase(
        start=lambda: start(machine, disk / "archive"),
        world=lambda: files_below(disk),
        check_success=check_success,
    )


class TestArchive(GenericFive):
    workflow = archive
    copying_steps = ("copy_points",)


def test_one_point_takes_only_what_it_is_made_of(archived: Archived, disk: Path) -> None:
    job = run_until_done(start(archived.machine, disk, archived.points[0]))
    assert job.state == JobState.SUCCEEDED, log_of(job)
    held = Store(disk).points(str(archived.machine.pk))
    assert [point.point_id for point in held] == [str(archived.points[0].pk)]


def test_what_was_there_stays_when_a_later_job_fails(
    archived: Archived, disk: Path, store: Store
) -> None:
    run_until_done(start(archived.machine, disk, archived.points[0]))
    before = files_below(disk)
    file = damage(store.root, archived.points[1])
    job = run_until_done(start(archived.machine, disk))
    assert (job.state, job.error_code) == (JobState.FAILED, "STORE-CHAIN-DAMAGED"), log_of(job)
    assert str(file) in job.error_text
    assert str(archived.points[0].pk) in job.error_text
    assert files_below(disk) == before


def test_a_second_archive_copies_what_is_new(archived: Archived, disk: Path) -> None:
    run_until_done(start(archived.machine, disk))
    later = archived.take_point()
    job = run_until_done(start(archived.machine, disk))
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert job.steps.get(name="copy_points").total_bytes == later.stored_bytes
    assert len(Store(disk).points(str(archived.machine.pk))) == 3


def while_copying(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Have something happen once, when a part has been copied; the disk is checked as always."""
    looked = steps.check_disk
    calls = iter(range(100_000))

    def look(found: dict[str, object]) -> None:
        if next(calls) == 2:
            happens()
        looked(found)

    monkeypatch.setattr(steps, "check_disk", look)


def test_a_disk_that_is_removed_in_mid_copy_is_told(
    archived: Archived, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_copying(monkeypatch, lambda: disk.rename(disk.with_name("pulled")))
    job = run_until_done(start(archived.machine, disk / "archive"))
    assert (job.state, job.error_code) == (JobState.FAILED, "ARCHIVE-DISK-GONE"), log_of(job)
    assert not disk.exists(), "nothing is written where the disk was"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A separate file system of 8 MiB that can be unmounted."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    with mounted_tmpfs(folder, 8 << 20):
        yield folder


def test_a_disk_that_is_unmounted_in_mid_copy_leaves_its_place_empty(
    archived: Archived, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmount = ["umount", "-l", str(mounted)]
    while_copying(monkeypatch, lambda: subprocess.run(unmount, check=True))
    job = run_until_done(start(archived.machine, mounted / "archive"))
    assert (job.state, job.error_code) == (JobState.FAILED, "ARCHIVE-DISK-GONE"), log_of(job)
    assert list(mounted.iterdir()) == []


def test_a_disk_that_fills_in_mid_copy_is_told_and_left_as_it_was(
    archived: Archived, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill() -> None:
        state = os.statvfs(mounted)
        (mounted / "filler").write_bytes(bytes(state.f_bavail * state.f_frsize))

    while_copying(monkeypatch, fill)
    job = run_until_done(start(archived.machine, mounted / "archive"))
    assert (job.state, job.error_code) == (JobState.FAILED, "STORE-FULL"), log_of(job)
    assert [path.name for path in mounted.iterdir()] == ["filler"]


def test_a_disk_that_is_too_small_is_refused_before_anything_is_made(
    archived: Archived, mounted: Path
) -> None:
    (mounted / "filler").write_bytes(bytes(7 * MIB))
    job = run_until_done(start(archived.machine, mounted / "archive"))
    assert (job.state, job.error_code) == (JobState.FAILED, "ARCHIVE-TOO-SMALL"), log_of(job)
    assert [path.name for path in mounted.iterdir()] == ["filler"]


def test_a_cancelled_archive_leaves_nothing(
    archived: Archived, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start(archived.machine, disk / "archive")
    while_copying(monkeypatch, lambda: cancel_job(job, None))
    job = run_until_done(job)
    assert (job.state, job.error_code) == (JobState.FAILED, "JOBS-CANCELLED"), log_of(job)
    assert files_below(disk) == set()


def test_a_place_that_went_bad_since_the_dialog_is_refused(
    archived: Archived, disk: Path, settings: Settings
) -> None:
    job = run_until_done(start(archived.machine, disk / "missing" / "archive"))
    assert job.error_code == "ARCHIVE-PATH-MISSING", log_of(job)
    settings.UNDERSTUDY_ARCHIVE_ROOTS = [disk / "elsewhere"]
    job = run_until_done(start(archived.machine, disk / "archive"))
    assert job.error_code == "ARCHIVE-PATH-NOT-ALLOWED", log_of(job)
    assert files_below(disk) == set()
