"""The import workflow: the generic five on a core that never knew the machine, and its faults."""

import shutil
import uuid
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import Settings

from console.jobs.acts import start_job
from console.jobs.choices import JobState
from console.jobs.models import Job
from console.jobs.testing import log_of, run_until_done
from protected_machines.archives.import_steps import (
    HistoryPoint,
    index_points,
    points_beside_history,
)
from protected_machines.archives.import_workflow import ImportParams, import_archive
from protected_machines.choices import MachineKind, PointState
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points.index import ensure_machine
from recovery_store.archiving import archive, consume
from recovery_store.store import Store
from tests.console.jobs.generic_five import GenericFive, WorkflowCase
from tests.protected_machines.archives.archived import (
    Archived,
    damage,
    files_below,
    forget,
    make_archived,
)
from tests.recovery_store.reading import seen_below

pytestmark = pytest.mark.django_db


@pytest.fixture
def archived(db: None, store: Store, tmp_path: Path) -> Archived:
    return make_archived(tmp_path)


@pytest.fixture
def points(archived: Archived) -> list[RecoveryPoint]:
    return archived.points


@pytest.fixture
def folder(archived: Archived, store: Store, tmp_path: Path) -> Path:
    """An archive of the machine's points."""
    folder = tmp_path / "archive"
    archive(store, str(archived.machine.pk), folder)
    return folder


@pytest.fixture
def machine_id(archived: Archived, folder: Path) -> uuid.UUID:
    """The machine's id, on a core that knows nothing else of it."""
    machine_id = uuid.UUID(str(archived.machine.pk))
    forget(machine_id)
    archived.machine.pk = machine_id
    return machine_id


def start(machine_id: uuid.UUID, folder: Path, point: RecoveryPoint | None = None) -> Job:
    params = ImportParams(str(folder), point.pk if point else None)
    return start_job("import_archive", machine_id, "db-01", params)


@pytest.fixture
def case(
    machine_id: uuid.UUID,
    folder: Path,
    archived: Archived,
    store: Store,
    tmp_path: Path,
) -> WorkflowCase:
    def check_success(job: Job) -> None:
        machine = Machine.objects.get(pk=machine_id)
        assert (machine.name, machine.kind) == ("db-01", MachineKind.RECOVERY_POINTS_ONLY)
        assert not machine.is_live
        states = dict(machine.points.values_list("pk", "state"))
        assert states == {point.pk: PointState.PROVEN for point in archived.points}
        archived.assert_same_disks(store, tmp_path)

    return WorkflowCase(
        start=lambda: start(machine_id, folder),
        world=lambda: (
            files_below(store.root),
            files_below(folder),
            set(Machine.objects.values_list("pk", flat=True)),
            set(RecoveryPoint.objects.values_list("pk", flat=True)),
        ),
        check_success=check_success,
    )


class TestImport(GenericFive):
    workflow = import_archive
    copying_steps = ("copy_points",)


def test_points_are_added_to_a_machine_that_is_known_and_its_owner_stays(
    archived: Archived, folder: Path, store: Store
) -> None:
    machine, points = archived.machine, archived.points
    store.delete_point(str(machine.pk), str(points[1].pk))
    RecoveryPoint.objects.filter(pk=points[1].pk).delete()
    elsewhere = uuid.uuid4()
    Machine.objects.update(owner_core_id=elsewhere, owner_core_name="DR site", ownership_epoch=2)
    job = run_until_done(start(machine.pk, folder))
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert job.steps.get(name="copy_points").total_bytes == points[1].stored_bytes
    machine.refresh_from_db()
    assert (machine.owner_core_id, machine.ownership_epoch) == (elsewhere, 2)
    assert machine.kind == MachineKind.PROTECTED
    assert machine.points.count() == 2


def test_a_second_import_does_nothing_twice(
    machine_id: uuid.UUID, folder: Path, store: Store
) -> None:
    run_until_done(start(machine_id, folder))
    before = files_below(store.root)
    job = run_until_done(start(machine_id, folder))
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert not job.steps.get(name="copy_points").total_bytes
    assert files_below(store.root) == before
    assert RecoveryPoint.objects.count() == 2


def test_one_point_brings_only_what_it_is_made_of(
    machine_id: uuid.UUID, folder: Path, points: list[RecoveryPoint]
) -> None:
    job = run_until_done(start(machine_id, folder, points[0]))
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert RecoveryPoint.objects.get().pk == points[0].pk


def test_a_damaged_file_is_named_with_what_stays_good(
    machine_id: uuid.UUID, folder: Path, points: list[RecoveryPoint], store: Store
) -> None:
    file = damage(folder, points[1])
    job = run_until_done(start(machine_id, folder))
    assert (job.state, job.error_code) == (JobState.FAILED, "STORE-CHAIN-DAMAGED"), log_of(job)
    assert str(file) in job.error_text
    assert str(points[0].pk) in job.error_text
    assert not Machine.objects.exists()
    assert files_below(store.root) == set()
    good = run_until_done(start(machine_id, folder, points[0]))
    assert good.state == JobState.SUCCEEDED, log_of(good)


def test_a_missing_file_is_named_and_nothing_comes(
    machine_id: uuid.UUID, folder: Path, points: list[RecoveryPoint]
) -> None:
    gone = Store(folder).get_folder(str(machine_id), str(points[1].pk)) / "disk1.vmdk"
    gone.unlink()
    job = run_until_done(start(machine_id, folder))
    assert job.error_code == "STORE-CHAIN-BROKEN", log_of(job)
    assert "disk1.vmdk" in job.error_text
    assert str(points[0].pk) in job.error_text
    assert not Machine.objects.exists()


def test_what_does_not_fit_is_refused_before_anything_comes(
    machine_id: uuid.UUID, folder: Path, settings: Settings
) -> None:
    free_bytes = shutil.disk_usage(folder).free
    settings.UNDERSTUDY_STORE_RESERVE_BYTES = free_bytes * 2
    job = run_until_done(start(machine_id, folder))
    assert job.error_code == "IMPORT-STORE-FULL", log_of(job)
    assert not Machine.objects.exists()


def test_a_folder_that_is_no_archive_is_refused(machine_id: uuid.UUID, tmp_path: Path) -> None:
    job = run_until_done(start(machine_id, tmp_path))
    assert job.error_code == "ARCHIVE-NONE-THERE", log_of(job)


def test_points_that_the_owner_did_not_go_on_from_are_told_apart() -> None:
    ids = [uuid.uuid4() for _ in range(5)]
    fork, stray, old = ids[0], ids[1], ids[4]
    points = [
        HistoryPoint(old, None, 1),
        HistoryPoint(fork, None, 1),
        HistoryPoint(stray, fork, 1),
        HistoryPoint(ids[2], fork, 2),
        HistoryPoint(ids[3], ids[2], 2),
    ]
    assert points_beside_history(points) == {stray}
    assert points_beside_history(points[:3]) == set()
    assert points_beside_history([]) == set()


@pytest.mark.django_db(transaction=True)
def test_the_store_is_read_while_the_database_is_free(
    machine_id: uuid.UUID, points: list[RecoveryPoint], folder: Path, store: Store
) -> None:
    consume(store, folder)
    ensure_machine(store.points(str(machine_id))[-1])
    is_database_held: list[bool] = []
    with seen_below(
        store.root, lambda path: is_database_held.append(connection.in_atomic_block)
    ) as seen:
        index_points(machine_id, [str(point.pk) for point in points])
    assert sum(path.name == "manifest.json" for path in seen) == len(points)
    assert True not in is_database_held
    assert Machine.objects.get().points.filter(state=PointState.PROVEN).count() == len(points)
