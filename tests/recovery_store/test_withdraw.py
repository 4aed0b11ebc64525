"""What an archive or an import has copied can be removed again, and only that."""

from pathlib import Path

import pytest

from recovery_store.archiving import archive, consume, withdraw
from recovery_store.errors import MachineMissing, PointMissing
from recovery_store.store import Store
from tests.recovery_store.disks import MACHINE_ID, MIB, add_chain, add_point
from tests.recovery_store.test_archiving import GHOST, big_point, end_after, ids, points_state


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """The store of another core, empty."""
    return Store(tmp_path / "other", reserve_bytes=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an archive is to be made."""
    return tmp_path / "archive"


def test_what_was_there_stays(store: Store, folder: Path) -> None:
    base, middle = add_chain(store, {0: 1}, {1: 2})
    archive(store, MACHINE_ID, folder, base.point_id)
    before = points_state(folder)
    archive(store, MACHINE_ID, folder)
    assert withdraw(Store(folder), MACHINE_ID, [middle.point_id]) == []
    assert points_state(folder) == before


def test_all_of_it_leaves_an_empty_folder(store: Store, folder: Path) -> None:
    points = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    archive(store, MACHINE_ID, folder)
    for _ in range(2):
        assert withdraw(Store(folder), MACHINE_ID, ids(points)) == []
        assert list(folder.iterdir()) == []


def test_half_a_point_goes_too(store: Store, other: Store, folder: Path) -> None:
    point = big_point(store)
    archive(store, point.machine_id, folder)
    with pytest.raises(InterruptedError):
        consume(other, folder, end_after(8 * MIB))
    assert withdraw(other, point.machine_id, [point.point_id]) == []
    assert not list(other.root.rglob("*.vmdk"))


def test_a_point_that_others_build_on_stays(store: Store, other: Store, folder: Path) -> None:
    base, middle = add_chain(store, {0: 1}, {1: 2})
    archive(store, MACHINE_ID, folder)
    consume(other, folder)
    child = add_point(other, {2: 3}, middle)
    assert withdraw(other, MACHINE_ID, ids([base, middle])) == ids([base, middle])
    assert ids(other.points(MACHINE_ID)) == ids([base, middle, child])


def test_one_machine_and_one_point_of_an_archive(store: Store, other: Store, folder: Path) -> None:
    base, _ = add_chain(store, {0: 1}, {1: 2})
    archive(store, MACHINE_ID, folder)
    with pytest.raises(MachineMissing):
        consume(other, folder, machine_id=GHOST)
    with pytest.raises(PointMissing):
        consume(other, folder, machine_id=MACHINE_ID, point_id=GHOST)
    assert consume(other, folder, machine_id=MACHINE_ID, point_id=base.point_id) == [base.point_id]
    assert ids(other.points(MACHINE_ID)) == [base.point_id]
