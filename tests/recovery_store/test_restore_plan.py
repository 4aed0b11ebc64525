"""Runs of a restore plan, applied to a real file, make it what qemu-img sees in the point."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery_store.errors import (
    ChainBroken,
    ChainDamaged,
    DiskMissing,
    PointMissing,
    PointUnrelated,
    VmdkDamaged,
)
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from recovery_store.vmdk.deflate import inflate
from recovery_store.vmdk.layout import GRAIN_BYTES
from recovery_store.vmdk.restore import RestoreRun
from tests.recovery_store.disks import (
    MACHINE_ID,
    MIB,
    Grains,
    add_chain,
    add_point,
    begin,
    commit,
    compressed,
    disk_path,
    flip_byte,
    import_raw,
    qemu_says_same,
    raw_bytes,
    send_disk,
    write_raw,
)

GHOST = "99999999-2222-4333-8444-555555555555"
OLD_DATA = 0xEE


def runs(
    store: Store,
    point: Manifest,
    since: Manifest | None = None,
    number: int = 0,
    from_grain: int = 0,
    is_blank: bool = True,
) -> list[RestoreRun]:
    """Return the plan's runs; each plan is held to what it says about itself."""
    since_id = since.point_id if since else None
    with store.plan_restore(
        point.machine_id, point.point_id, number, since_id, is_blank=is_blank
    ) as plan:
        whole = list(plan.read_runs())
        assert plan.capacity_bytes == point.disk(number).capacity_bytes
        assert plan.grains == sum(len(run.compressed) for run in whole)
        assert plan.zero_grains == sum(run.zero_grains for run in whole)
        assert plan.data_bytes == sum(run.data_bytes for run in whole)
        rest = list(plan.read_runs(from_grain))
        assert plan.left_bytes(from_grain) == sum(run.data_bytes for run in rest)
    ends = [from_grain, *(run.end_grain for run in rest)]
    assert all(end <= run.first_grain for end, run in zip(ends, rest, strict=False))
    assert all(bool(run.compressed) != bool(run.zero_grains) for run in rest)
    return rest


def apply(path: Path, capacity_bytes: int, runs: Iterable[RestoreRun]) -> Path:
    """Write runs to a disk as a restore does; the disk is as long as the point's afterwards."""
    path.touch()
    with path.open("r+b") as file:
        file.truncate(capacity_bytes)
        for run in runs:
            start = run.first_grain * GRAIN_BYTES
            data = b"".join(map(inflate, run.compressed)) or bytes(run.zero_grains * GRAIN_BYTES)
            file.seek(start)
            file.write(data[: capacity_bytes - start])
    return path


def restored(
    store: Store, path: Path, point: Manifest, since: Manifest | None = None, number: int = 0
) -> bool:
    """Restore onto that file, and let qemu-img judge."""
    apply(path, point.disk(number).capacity_bytes, runs(store, point, since, number))
    return qemu_says_same(disk_path(store, point, number), path)


def grains_of(runs: Sequence[RestoreRun]) -> list[tuple[int, int, int]]:
    """Return (first grain, with data, zero) of each run."""
    return [(run.first_grain, len(run.compressed), run.zero_grains) for run in runs]


def test_a_whole_restore_and_what_changed_since_make_the_point(
    store: Store, tmp_path: Path
) -> None:
    base, middle, newest = add_chain(
        store,
        {0: 1, 1: 2, 2: 3, 600: 4, 639: 5},
        {1: 6, 2: None, 601: 7},
        {0: 8, 600: None, 30: 9},
        capacity_bytes=40 * MIB,
    )
    disk = tmp_path / "disk.raw"
    assert restored(store, disk, base)
    assert restored(store, disk, middle, since=base)
    assert restored(store, disk, newest, since=middle)
    assert disk.read_bytes() == raw_bytes({0: 8, 1: 6, 30: 9, 601: 7, 639: 5}, 40 * MIB)
    for point in (base, middle, newest):
        assert restored(store, tmp_path / point.point_id, point)
    again = tmp_path / "again.raw"
    assert restored(store, again, base)
    assert restored(store, again, newest, since=base)


def test_only_grains_with_data_or_with_a_change_are_in_the_runs(store: Store) -> None:
    base, middle, newest = add_chain(
        store, {0: 1, 1: 2, 5: 3}, {1: 4, 5: None}, {1: 5, 2: None, 9: 6}
    )
    assert grains_of(runs(store, base)) == [(0, 2, 0), (5, 1, 0)]
    assert grains_of(runs(store, newest)) == [(0, 2, 0), (9, 1, 0)]
    assert grains_of(runs(store, newest, since=base)) == [
        (1, 1, 0),
        (2, 0, 1),
        (5, 0, 1),
        (9, 1, 0),
    ]
    assert grains_of(runs(store, newest, since=middle)) == [(1, 1, 0), (2, 0, 1), (9, 1, 0)]
    assert runs(store, newest, since=newest) == []
    with store.plan_restore(MACHINE_ID, newest.point_id, 0, newest.point_id) as plan:
        assert (plan.grains, plan.zero_grains, plan.data_bytes) == (0, 0, 0)


def test_the_grains_are_the_stored_bytes(store: Store) -> None:
    _, delta = add_chain(store, {0: 1, 1: 2}, {1: 3, 2: 4})
    (run,) = runs(store, delta)
    assert [bytes(grain) for grain in run.compressed] == [compressed(n) for n in (1, 3, 4)]


def test_a_disk_that_has_grown_is_zero_behind_its_old_end(store: Store, tmp_path: Path) -> None:
    base = add_point(store, {0: 1, 62: 2, 63: 3}, capacity_bytes=4 * MIB)
    grown = add_point(store, {1: 4, 70: 5}, base, capacity_bytes=6 * MIB)
    assert grains_of(runs(store, grown, since=base)) == [
        (1, 1, 0),
        (64, 0, 6),
        (70, 1, 0),
        (71, 0, 25),
    ]
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes([OLD_DATA]) * 6 * MIB)
    apply(disk, base.disk(0).capacity_bytes, runs(store, base, is_blank=False))
    disk.write_bytes(disk.read_bytes() + bytes([OLD_DATA]) * 2 * MIB)
    assert restored(store, disk, grown, since=base)


@pytest.mark.parametrize("border", [3, None])
@pytest.mark.parametrize("after", [{3: 3}, {3: 7}, {3: None}, {2: 8, 4: 9}])
def test_the_grain_on_the_old_end_of_a_grown_disk_is_written_again(
    store: Store, tmp_path: Path, border: int | None, after: Grains
) -> None:
    old_bytes, new_bytes = 3 * GRAIN_BYTES + 512, 6 * GRAIN_BYTES
    image = write_raw(tmp_path / "image.raw", {0: 1, 3: border}, old_bytes)
    base = import_raw(store, [image])
    write_raw(image, {0: 1, **after}, new_bytes)
    grown = import_raw(store, [image], base)
    disk = tmp_path / "disk.raw"
    apply(disk, old_bytes, runs(store, base))
    # The real disk is longer than the point was, and behind that nobody wrote.
    disk.write_bytes(disk.read_bytes() + bytes([OLD_DATA]) * (new_bytes - old_bytes))
    assert restored(store, disk, grown, since=base)
    assert qemu_says_same(disk_path(store, grown), image)


def test_a_disk_that_holds_old_data_is_covered_whole(store: Store, tmp_path: Path) -> None:
    _, delta = add_chain(store, {0: 1, 5: 2, 600: 3}, {5: None, 7: 4}, capacity_bytes=40 * MIB)
    whole = runs(store, delta, is_blank=False)
    assert grains_of(whole) == [
        (0, 1, 0),
        (1, 0, 6),
        (7, 1, 0),
        (8, 0, 592),
        (600, 1, 0),
        (601, 0, 39),
    ]
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes([OLD_DATA]) * 40 * MIB)
    apply(disk, 40 * MIB, whole)
    assert qemu_says_same(disk_path(store, delta), disk)


def test_a_disk_sent_whole_again_replaces_what_is_there(store: Store, tmp_path: Path) -> None:
    base = add_point(store, {0: 1, 3: 2, 40: 3}, capacity_bytes=4 * MIB)
    with begin(store, base) as writer:
        send_disk(writer, 0, {3: 4, 5: 5}, 2 * MIB, has_parent=False)
        shrunk = commit(writer)
    disk = tmp_path / "disk.raw"
    assert restored(store, disk, base)
    assert restored(store, disk, shrunk, since=base)


def test_a_disk_that_came_later_is_new(store: Store, tmp_path: Path) -> None:
    base = add_point(store, {0: 1})
    with begin(store, base) as writer:
        send_disk(writer, 0, {1: 2}, 4 * MIB, has_parent=True)
        send_disk(writer, 1, {2: 3}, 2 * MIB)
        later = commit(writer)
    assert grains_of(runs(store, later, since=base, number=1)) == [(2, 1, 0)]
    assert restored(store, tmp_path / "new.raw", later, since=base, number=1)


def test_a_disk_under_another_number_is_found_by_its_key(store: Store, tmp_path: Path) -> None:
    with begin(store) as writer:
        send_disk(writer, 0, {0: 1}, 4 * MIB, "a")
        send_disk(writer, 1, {0: 2}, 4 * MIB, "b")
        base = commit(writer)
    with begin(store, base) as writer:
        send_disk(writer, 0, {1: 3}, 4 * MIB, "b", has_parent=True)
        swapped = commit(writer)
    disk = tmp_path / "disk.raw"
    assert restored(store, disk, base, number=1)
    assert restored(store, disk, swapped, since=base, number=0)
    assert disk.read_bytes() == raw_bytes({0: 2, 1: 3}, 4 * MIB)


def test_a_restore_goes_on_at_any_grain(store: Store, tmp_path: Path) -> None:
    rng = random.Random(1)
    base = {index: index for index in rng.sample(range(640), 200)}
    changes = {index: rng.choice([None, index + 1000]) for index in rng.sample(range(640), 200)}
    first, second = add_chain(store, base, changes, capacity_bytes=40 * MIB)
    for since in (None, first):
        whole = runs(store, second, since)
        for from_grain in (0, 1, 63, 64, 511, 512, 513, 639, 640):
            rest = runs(store, second, since, from_grain=from_grain)
            covered = {
                grain
                for run in whole
                for grain in range(run.first_grain, run.end_grain)
                if grain >= from_grain
            }
            assert covered == {
                grain for run in rest for grain in range(run.first_grain, run.end_grain)
            }
    disk = tmp_path / "disk.raw"
    assert restored(store, disk, first)
    cut = runs(store, second, first)[:50]
    apply(disk, 40 * MIB, cut)
    apply(disk, 40 * MIB, runs(store, second, first, from_grain=cut[-1].end_grain))
    assert qemu_says_same(disk_path(store, second), disk)


def test_runs_are_limited_so_that_memory_is(store: Store) -> None:
    point = add_point(store, {index: index for index in range(300)}, capacity_bytes=40 * MIB)
    assert all(len(run.compressed) <= 64 for run in runs(store, point))


@given(
    changes=st.lists(
        st.dictionaries(st.integers(0, 39), st.one_of(st.none(), st.integers(0, 9)), max_size=12),
        min_size=2,
        max_size=4,
    ),
    growth=st.lists(st.integers(0, 3), min_size=4, max_size=4),
)
def test_any_two_points_of_a_chain(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[dict[int, int | None]],
    growth: list[int],
) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    store = Store(tmp_path / "store", reserve_bytes=0)
    points: list[Manifest] = []
    capacity_bytes = 40 * GRAIN_BYTES
    for grains, more in zip(changes, growth, strict=False):
        capacity_bytes += more * GRAIN_BYTES
        points.append(add_point(store, grains, points[-1] if points else None, capacity_bytes))
    newest = points[-1]
    with store.open_disk(newest.machine_id, newest.point_id, 0) as merged:
        expected = merged.read(0, capacity_bytes)
    disk = tmp_path / "disk.raw"
    for since in points:
        disk.unlink(missing_ok=True)
        apply(disk, since.disks[0].capacity_bytes, runs(store, since))
        apply(disk, capacity_bytes, runs(store, newest, since))
        assert disk.read_bytes() == expected


def test_what_cannot_be_restored_is_refused_by_name(store: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    sibling = add_point(store, {2: 3}, base)
    for point_id, number, since_id, error in (
        (GHOST, 0, None, PointMissing),
        (delta.point_id, 7, None, DiskMissing),
        (delta.point_id, 0, GHOST, PointUnrelated),
        (delta.point_id, 0, sibling.point_id, PointUnrelated),
        (base.point_id, 0, delta.point_id, PointUnrelated),
    ):
        with pytest.raises(error, match=since_id or str(number or point_id)):
            store.plan_restore(MACHINE_ID, point_id, number, since_id)


def test_damage_is_refused_before_it_reaches_a_disk(store: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    flip_byte(disk_path(store, delta), 128 * 512)  # the marker of its first grain
    with (
        store.plan_restore(MACHINE_ID, delta.point_id, 0) as plan,
        pytest.raises(VmdkDamaged, match="grain 1 is not where its table says"),
    ):
        list(plan.read_runs())
    flip_byte(disk_path(store, delta), 4)
    with pytest.raises(ChainDamaged, match="its header"):
        store.plan_restore(MACHINE_ID, delta.point_id, 0)
    disk_path(store, base).unlink()
    with pytest.raises(ChainBroken, match=r"disk0\.vmdk is missing"):
        store.plan_restore(MACHINE_ID, delta.point_id, 0, base.point_id)


def test_a_file_that_shrinks_under_the_plan_is_refused(store: Store) -> None:
    (point,) = add_chain(store, {0: 1})
    with store.plan_restore(MACHINE_ID, point.point_id, 0) as plan:
        with disk_path(store, point).open("r+b") as file:
            file.truncate(128 * 512)
        with pytest.raises(VmdkDamaged, match="ends before"):
            list(plan.read_runs())


def test_the_common_point_is_the_newest_that_a_point_is_made_of(store: Store) -> None:
    base, middle, newest = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    ids = {base.point_id, middle.point_id, GHOST}
    assert store.common_point(MACHINE_ID, ids) == middle
    assert store.common_point(MACHINE_ID, [newest.point_id, base.point_id]) == newest
    assert store.common_point(MACHINE_ID, ids, base.point_id) == base
    assert store.common_point(MACHINE_ID, [GHOST]) is None
    assert store.common_point(MACHINE_ID, []) is None
    assert store.common_point(MACHINE_ID, ids, GHOST) is None
    assert store.common_point(GHOST, ids) is None


def test_a_branch_that_was_not_carried_on_is_no_common_point(store: Store) -> None:
    base, dead = add_chain(store, {0: 1}, {1: 2})
    carried_on = add_point(store, {2: 3}, base)
    both = [base.point_id, dead.point_id]
    assert store.common_point(MACHINE_ID, both, carried_on.point_id) == base


def test_bytes_since_are_those_of_the_files_behind_a_point(store: Store) -> None:
    base, middle, newest = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    beyond = middle.stored_bytes + newest.stored_bytes
    assert store.bytes_since(MACHINE_ID, newest.point_id, base.point_id) == beyond
    assert store.bytes_since(MACHINE_ID, newest.point_id, None) == base.stored_bytes + beyond
    assert store.bytes_since(MACHINE_ID, newest.point_id, newest.point_id) == 0
    with pytest.raises(PointUnrelated):
        store.bytes_since(MACHINE_ID, base.point_id, newest.point_id)
