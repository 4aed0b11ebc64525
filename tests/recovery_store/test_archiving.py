"""Points that travel by hand: to an archive and out of it, whole or not at all."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from recovery_store.archiving import archive, consume
from recovery_store.errors import (
    ChainBroken,
    ChainDamaged,
    MachineMissing,
    ParentUnfit,
    PointExists,
    PointMissing,
    SourceUnreadable,
    StoreBusy,
    StoreFull,
    StoreUnusable,
)
from recovery_store.folders import WriterLock
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from tests.recovery_store.disks import (
    MACHINE_ID,
    MIB,
    NOON,
    add_chain,
    add_point,
    begin,
    commit,
    disk_path,
    flip_byte,
    import_raw,
    qemu_says_same,
    send_disk,
    tree_state,
    write_raw,
)
from tests.recovery_store.dying import kill_at_progress

GHOST = "99999999-2222-4333-8444-555555555555"


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """The store of another core, empty."""
    return Store(tmp_path / "other", reserve_bytes=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an archive is to be made."""
    return tmp_path / "archive"


def ids(points: list[Manifest]) -> list[str]:
    return [point.point_id for point in points]


def points_state(root: Path) -> dict[str, bytes]:
    """Return the files of whole points, but for the digest tables, which are no part of them."""
    return {
        name: content
        for name, content in tree_state(root).items()
        if "/points/" in name and not name.endswith(".grains")
    }


def unfinished(store: Store) -> list[Path]:
    """Return the half points; the name of a lock that a killed process held is none."""
    return [path for path in store.root.glob("machines/*/unfinished/*") if path.is_dir()]


def test_there_and_back_qemu_sees_the_same_disk(
    store: Store, other: Store, folder: Path, tmp_path: Path
) -> None:
    image = write_raw(tmp_path / "disk.raw", {0: 1, 9: 2, 600: 3}, 40 * MIB)
    base = import_raw(store, [image])
    write_raw(image, {0: 1, 9: 4, 601: 5}, 42 * MIB)
    delta = import_raw(store, [image], base)
    assert archive(store, base.machine_id, folder) == [base.point_id, delta.point_id]
    assert Store(folder).check().is_good
    assert qemu_says_same(disk_path(Store(folder), delta), image)

    assert consume(other, folder) == [base.point_id, delta.point_id]
    assert qemu_says_same(disk_path(other, delta), image)
    assert points_state(other.root) == points_state(store.root)
    write_raw(image, {0: 6}, 42 * MIB)
    back = import_raw(other, [image], delta)
    assert archive(other, base.machine_id, folder)[-1] == back.point_id
    assert consume(store, folder)[-1] == back.point_id
    assert qemu_says_same(disk_path(store, back), image)
    assert store.check().is_good
    assert unfinished(store) == unfinished(other) == unfinished(Store(folder)) == []


def test_a_second_run_changes_nothing(store: Store, other: Store, folder: Path) -> None:
    points = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    archive(store, MACHINE_ID, folder)
    before = tree_state(folder)
    assert archive(store, MACHINE_ID, folder) == ids(points)
    assert tree_state(folder) == before
    consume(other, folder)
    before = tree_state(other.root)
    assert consume(other, folder) == ids(points)
    assert tree_state(other.root) == before
    assert consume(store, folder) == ids(points)


def test_only_what_is_new_is_copied(store: Store, folder: Path) -> None:
    base, middle = add_chain(store, {0: 1}, {1: 2})
    archive(store, MACHINE_ID, folder)
    newest = add_point(store, {2: 3}, middle)
    told: list[tuple[int, int]] = []
    archive(store, MACHINE_ID, folder, progress=lambda *each: told.append(each))
    assert told[-1] == (newest.stored_bytes, newest.stored_bytes)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {newest.stored_bytes}
    assert ids(Store(folder).points(MACHINE_ID)) == ids([base, middle, newest])


def test_one_point_takes_what_it_is_made_of_and_no_more(store: Store, folder: Path) -> None:
    base, middle, _ = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    add_point(store, {3: 4}, base)
    assert archive(store, MACHINE_ID, folder, middle.point_id) == ids([base, middle])
    assert ids(Store(folder).points(MACHINE_ID)) == ids([base, middle])


def test_parents_come_first_whatever_their_times_say(
    store: Store, other: Store, folder: Path
) -> None:
    base = add_point(store, {0: 1})
    with begin(store, base) as writer:
        send_disk(writer, 0, {1: 2}, 4 * MIB, has_parent=True)
        child = writer.commit(
            {}, "crash", "core-1", "Headquarters", 1, taken_at=NOON - timedelta(days=1)
        )
    grandchild = add_point(store, {2: 3}, child)
    assert archive(store, MACHINE_ID, folder) == ids([base, child, grandchild])
    assert consume(other, folder) == ids([base, child, grandchild])


def test_all_machines_of_an_archive_are_consumed(
    store: Store, other: Store, folder: Path, tmp_path: Path
) -> None:
    image = write_raw(tmp_path / "disk.raw", {0: 1}, 4 * MIB)
    first = import_raw(store, [image])
    second = add_point(store, {0: 2})
    archive(store, first.machine_id, folder)
    archive(store, second.machine_id, folder)
    assert sorted(consume(other, folder)) == sorted(ids([first, second]))
    assert other.machine_ids() == store.machine_ids()


def test_an_archive_may_lack_a_parent_that_the_store_has(
    store: Store, other: Store, folder: Path
) -> None:
    base, middle = add_chain(store, {0: 1}, {1: 2})
    archive(store, MACHINE_ID, folder)
    consume(other, folder)
    newest = add_point(store, {2: 3}, middle)
    archive(store, MACHINE_ID, folder)
    for point in (middle, base):
        remove(Store(folder).get_folder(MACHINE_ID, point.point_id))
    assert consume(other, folder) == [newest.point_id]
    assert ids(other.check().good_points) == ids([base, middle, newest])


def remove(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


def test_a_missing_point_is_named_and_nothing_is_taken(
    store: Store, other: Store, folder: Path
) -> None:
    base, middle, newest = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    archive(store, MACHINE_ID, folder)
    remove(Store(folder).get_folder(MACHINE_ID, middle.point_id))
    with pytest.raises(
        ChainBroken, match=f"{middle.point_id}, the parent of {newest.point_id}"
    ) as refused:
        consume(other, folder)
    assert refused.value.good_point_ids == (base.point_id,)
    assert not other.root.exists()


@pytest.mark.parametrize("name", ["disk0.vmdk", "manifest.json"])
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: os.truncate(path, 100)])
def test_a_missing_or_cut_file_is_named_and_nothing_is_taken(
    store: Store, other: Store, folder: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    base, middle, _ = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    archive(store, MACHINE_ID, folder)
    path = Store(folder).get_folder(MACHINE_ID, middle.point_id) / name
    spoil(path)
    with pytest.raises(ChainBroken, match=str(path)) as refused:
        consume(other, folder)
    assert refused.value.good_point_ids == (base.point_id,)
    assert not other.root.exists()


def test_a_damaged_file_is_named_and_only_whole_points_stay(
    store: Store, other: Store, folder: Path
) -> None:
    base, middle, newest = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    archive(store, MACHINE_ID, folder)
    path = disk_path(Store(folder), middle)
    flip_byte(path, 66_000)
    for _ in range(2):
        with pytest.raises(ChainDamaged, match=str(path)) as refused:
            consume(other, folder)
        assert refused.value.good_point_ids == (base.point_id,)
        assert other.points(MACHINE_ID) == [base]
        assert other.check().is_good
        assert unfinished(other) == []
    flip_byte(path, 66_000)
    assert consume(other, folder) == ids([base, middle, newest])
    assert points_state(other.root) == points_state(store.root)


def test_a_damaged_store_gives_its_sound_points_to_an_archive(store: Store, folder: Path) -> None:
    base, middle, _ = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    path = disk_path(store, middle)
    flip_byte(path, 66_000)
    with pytest.raises(ChainDamaged, match=str(path)):
        archive(store, MACHINE_ID, folder)
    assert Store(folder).points(MACHINE_ID) == [base]
    assert Store(folder).check().is_good
    path.unlink()
    with pytest.raises(ChainBroken, match=str(path)):
        archive(store, MACHINE_ID, folder)
    assert archive(store, MACHINE_ID, folder, base.point_id) == [base.point_id]


def test_an_archive_whose_files_are_links_is_refused(
    store: Store, other: Store, folder: Path, tmp_path: Path
) -> None:
    (point,) = add_chain(store, {0: 1})
    archive(store, MACHINE_ID, folder)
    path = disk_path(Store(folder), point)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceUnreadable, match=str(path)):
        consume(other, folder)
    assert other.points(MACHINE_ID) == []
    assert unfinished(other) == []
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ChainBroken, match=str(path)):
        consume(other, folder)


def test_another_point_of_the_same_id_is_refused(store: Store, other: Store, folder: Path) -> None:
    with begin(store, point_id=GHOST) as writer:
        send_disk(writer, 0, {0: 1}, 4 * MIB)
        commit(writer)
    with begin(other, point_id=GHOST) as writer:
        send_disk(writer, 0, {0: 2}, 4 * MIB)
        mine = commit(writer)
    archive(store, MACHINE_ID, folder)
    with pytest.raises(PointExists, match=GHOST):
        consume(other, folder)
    assert other.points(MACHINE_ID) == [mine]


def test_a_parent_that_is_another_one_there_is_refused(
    store: Store, other: Store, folder: Path
) -> None:
    for each, number in ((store, 1), (other, 2)):
        with begin(each, point_id=GHOST) as writer:
            send_disk(writer, 0, {0: number}, 4 * MIB)
            commit(writer)
    add_point(store, {1: 3}, store.get_point(MACHINE_ID, GHOST))
    archive(store, MACHINE_ID, folder)
    remove(Store(folder).get_folder(MACHINE_ID, GHOST))
    with pytest.raises(ParentUnfit, match=GHOST):
        consume(other, folder)
    assert other.check().is_good


def test_folders_that_are_no_archive_are_refused(
    store: Store, other: Store, folder: Path, tmp_path: Path
) -> None:
    add_chain(store, {0: 1})
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "machines" / MACHINE_ID / "points").mkdir(parents=True)
    (tmp_path / "file").touch()
    for bad in (folder, tmp_path / "empty", tmp_path / "hollow", tmp_path / "file"):
        with pytest.raises(StoreUnusable, match=bad.name):
            consume(other, bad)
    with pytest.raises(StoreUnusable, match="itself"):
        consume(store, tmp_path / "x" / ".." / "store")
    with pytest.raises(StoreUnusable, match="itself"):
        archive(store, MACHINE_ID, store.root)
    with pytest.raises(StoreUnusable, match="not-mounted"):
        archive(store, MACHINE_ID, tmp_path / "not-mounted" / "archive")
    with pytest.raises(StoreUnusable, match="file"):
        archive(store, MACHINE_ID, tmp_path / "file")
    with pytest.raises(MachineMissing, match=GHOST):
        archive(store, GHOST, folder)
    with pytest.raises(PointMissing, match=GHOST):
        archive(store, MACHINE_ID, folder, GHOST)
    assert not other.root.exists()
    assert not folder.exists()


def test_what_does_not_fit_is_refused_before_anything_is_taken(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    add_chain(store, {0: 1}, {1: 2})
    archive(store, MACHINE_ID, folder)
    full = Store(tmp_path / "full", reserve_bytes=1 << 60)
    with pytest.raises(StoreFull, match="copying"):
        consume(full, folder)
    assert not full.root.exists()


def test_two_runs_at_once_do_not_mix(store: Store, other: Store, folder: Path) -> None:
    add_chain(store, {0: 1})
    archive(store, MACHINE_ID, folder)
    place = other.root / "machines" / MACHINE_ID / "unfinished"
    place.mkdir(parents=True)
    with WriterLock(place, "copying"), pytest.raises(StoreBusy, match="another process"):
        consume(other, folder)
    assert len(consume(other, folder)) == 1


def test_a_run_that_is_ended_goes_on_where_it_was(store: Store, other: Store, folder: Path) -> None:
    point = big_point(store)
    archive(store, point.machine_id, folder)
    with pytest.raises(InterruptedError):
        consume(other, folder, end_after(8 * MIB))
    assert other.points(point.machine_id) == []
    told: list[int] = []
    assert consume(other, folder, lambda done, _: told.append(done)) == [point.point_id]
    assert told[0] == 8 * MIB
    assert unfinished(other) == []


def test_damage_to_what_an_earlier_run_left_is_made_good(
    store: Store, other: Store, folder: Path
) -> None:
    point = big_point(store)
    archive(store, point.machine_id, folder)
    with pytest.raises(InterruptedError):
        consume(other, folder, end_after(8 * MIB))
    (left,) = other.root.glob("machines/*/unfinished/replica-*/disk0.vmdk")
    flip_byte(left, 5 * MIB)
    assert consume(other, folder) == [point.point_id]
    assert other.check().is_good


def big_point(store: Store) -> Manifest:
    """Add a point of more than one slice: noise, which does not shrink."""
    image = store.root.parent / "noise.raw"
    image.write_bytes(os.urandom(12 * MIB))
    return import_raw(store, [image])


def end_after(limit_bytes: int) -> Callable[[int, int], None]:
    def progress(done_bytes: int, _: int) -> None:
        if done_bytes >= limit_bytes:
            raise InterruptedError

    return progress


def test_a_kill_in_mid_consume(store: Store, other: Store, folder: Path) -> None:
    point = big_point(store)
    archive(store, point.machine_id, folder)
    kill_at_progress(8 * MIB, lambda progress: consume(other, folder, progress))
    (left,) = unfinished(other)
    assert (left / "disk0.vmdk").stat().st_size == 8 * MIB
    assert other.check().is_good
    assert other.points(point.machine_id) == []
    told: list[int] = []
    assert consume(other, folder, lambda done, _: told.append(done)) == [point.point_id]
    assert told[0] == 8 * MIB
    assert points_state(other.root) == points_state(store.root)
    assert unfinished(other) == []


@pytest.mark.parametrize("name", ["manifest.json", "disk0.vmdk"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_neither_pipes_nor_links_on_a_carried_disk_hold_an_import_up(
    store: Store, tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    point = add_chain(store, {0: 1})[0]
    path = disk_path(store, point).with_name(name)
    path.unlink()
    make(path)
    target = Store(tmp_path / "target", reserve_bytes=0)
    with pytest.raises(ChainBroken):
        consume(target, store.root)
    assert not store.check().is_good
    assert target.machine_ids() == []
