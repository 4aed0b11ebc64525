"""The index of the store: what is on disk, what is in the database, and what cannot be read."""

import shutil
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.utils import timezone

from protected_machines.choices import MachineKind, PointKind, PointState
from protected_machines.errors import PointForeign
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points.index import MISSING_TEXT, index_point, reindex_store
from protected_machines.points.taking import take_recovery_point
from recovery_store.store import Store
from tests.factories import make_machine, make_recovery_point
from tests.places.agent import MIB, write_disk
from tests.recovery_store.disks import add_point, send_disk

pytestmark = pytest.mark.django_db


@pytest.fixture
def points(machine: Machine) -> list[RecoveryPoint]:
    """A base image and an incremental on it."""
    kinds = (PointKind.BASE_IMAGE, PointKind.INCREMENTAL)
    return [take_recovery_point(machine, kind, uuid.uuid4()) for kind in kinds]


def test_the_index_is_rebuilt_from_the_store(points: list[RecoveryPoint], store: Store) -> None:
    machine_id = points[0].machine_id
    Machine.objects.all().delete()
    report = reindex_store(store)
    assert report.indexed == [str(point.pk) for point in points]
    machine = Machine.objects.get()
    assert (machine.pk, machine.name) == (machine_id, "db-01")
    assert machine.kind == MachineKind.RECOVERY_POINTS_ONLY
    rebuilt = list(machine.points.order_by("taken_at"))
    for old, new in zip(points, rebuilt, strict=True):
        assert (old.pk, old.kind, old.parent_id) == (new.pk, new.kind, new.parent_id)
        assert old.stored_bytes == new.stored_bytes


def test_a_second_look_changes_nothing(points: list[RecoveryPoint], store: Store) -> None:
    report = reindex_store(store)
    assert (report.indexed, report.missing, report.unreadable) == ([], [], [])


def test_a_point_that_the_store_lacks_is_damaged_until_it_is_back(
    points: list[RecoveryPoint], store: Store
) -> None:
    newest = points[1]
    folder = store.get_folder(str(newest.machine_id), str(newest.pk))
    aside = store.root / "aside"
    folder.rename(aside)
    assert reindex_store(store).missing == [str(newest.pk)]
    newest.refresh_from_db()
    assert (newest.state, newest.damage_text) == (PointState.DAMAGED, MISSING_TEXT)
    assert reindex_store(store).missing == [], "it is said once"
    aside.rename(folder)
    reindex_store(store)
    newest.refresh_from_db()
    assert newest.state == PointState.UNPROVEN


def test_a_store_that_is_not_there_is_not_an_empty_store(
    points: list[RecoveryPoint], store: Store
) -> None:
    shutil.rmtree(store.root)
    report = reindex_store(store)
    assert report.unreadable
    assert not report.missing
    assert not RecoveryPoint.objects.filter(state=PointState.DAMAGED).exists()


def test_a_file_in_the_place_of_the_store_is_not_an_empty_store(
    points: list[RecoveryPoint], store: Store
) -> None:
    shutil.rmtree(store.root / "machines")
    (store.root / "machines").write_text("no folder")
    assert reindex_store(store).unreadable
    assert not RecoveryPoint.objects.filter(state=PointState.DAMAGED).exists()


def test_an_empty_store_of_a_new_core_is_fine(db: None, store: Store) -> None:
    report = reindex_store(store)
    assert (report.indexed, report.missing, report.unreadable) == ([], [], [])


def test_indexing_a_point_twice_keeps_what_is_known_of_it(
    points: list[RecoveryPoint], store: Store
) -> None:
    points[0].mark_proven()
    manifest = store.get_point(str(points[0].machine_id), str(points[0].pk))
    assert index_point(points[0].machine, manifest).state == PointState.PROVEN


def test_a_manifest_that_changed_is_damage(points: list[RecoveryPoint], store: Store) -> None:
    RecoveryPoint.objects.filter(pk=points[0].pk).update(manifest_digest="f" * 64)
    manifest = store.get_point(str(points[0].machine_id), str(points[0].pk))
    assert index_point(points[0].machine, manifest).state == PointState.DAMAGED


def test_a_point_of_another_machine_is_refused(points: list[RecoveryPoint], store: Store) -> None:
    manifest = store.get_point(str(points[0].machine_id), str(points[0].pk))
    with pytest.raises(ValueError, match="is of machine"):
        index_point(make_machine(), manifest)


def test_a_point_that_was_imported_from_a_shell_appears(
    db: None, store: Store, tmp_path: Path
) -> None:
    image = write_disk(tmp_path / "disk.raw", 2 * MIB, MIB)
    words = ("import", str(store.root), str(image), "--machine", "old-01")
    subprocess.run(
        [sys.executable, "-m", "recovery_store", *words],
        check=True,
        timeout=60,
        capture_output=True,
    )
    assert len(reindex_store(store).indexed) == 1
    point = RecoveryPoint.objects.get()
    assert (point.machine.name, point.taken_by_core_name) == ("old-01", "imported")
    assert point.machine.kind == MachineKind.RECOVERY_POINTS_ONLY
    assert not point.machine.is_owned_here


def test_points_of_machines_that_only_the_database_knows_are_looked_for(
    points: list[RecoveryPoint], store: Store
) -> None:
    lost = make_recovery_point()
    assert reindex_store(store).missing == [str(lost.pk)]


def test_a_point_with_the_id_of_another_machine_s_point_leaves_that_one_alone(
    points: list[RecoveryPoint], store: Store
) -> None:
    machine, taken_id = points[0].machine, points[1].pk
    points[1].delete()
    other = make_recovery_point(id=taken_id, state=PointState.PROVEN)
    with pytest.raises(PointForeign, match=other.machine.name):
        index_point(machine, store.get_point(str(machine.pk), str(taken_id)))
    other.refresh_from_db()
    assert (other.state, other.damage_text) == (PointState.PROVEN, "")


def test_what_cannot_be_indexed_of_one_machine_keeps_out_no_other(
    points: list[RecoveryPoint], store: Store
) -> None:
    """A foreign id, and an owner whose id is not one, beside two sound points of a machine."""
    RecoveryPoint.objects.all().delete()
    make_recovery_point(id=points[1].pk)
    odd = add_point(store, {0: 1})
    report = reindex_store(store)
    assert str(points[0].pk) in report.indexed
    assert len(report.unreadable) == 2
    assert any(odd.point_id in text or odd.machine_id in text for text in report.unreadable)
    assert any(str(points[1].pk) in text for text in report.unreadable)


def test_a_point_of_the_year_9999_makes_no_machine_that_is_owned_from_then_on(
    store: Store,
) -> None:
    machine_id, far = str(uuid.uuid4()), datetime(9999, 12, 31, tzinfo=UTC)
    with store.begin_point(machine_id, "db-01", str(uuid.uuid4()), taken_at=far) as writer:
        send_disk(writer, 0, {0: 1}, 65536)
        writer.commit({}, "crash", "", "", 1)
    assert "which no clock shows" in " ".join(reindex_store(store).unreadable)
    assert Machine.objects.get(pk=machine_id).owned_since <= timezone.now()
