"""The digest table is a cache: believed only when proven, and rebuilt when not."""

import os
from pathlib import Path

import pytest

from recovery_store.grain_table import GrainTable, TableOwner, TableUnfit
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from recovery_store.vmdk.imaging import grain_digest
from tests.recovery_store.disks import (
    MIB,
    Grains,
    add_chain,
    add_point,
    begin,
    content,
    disk_path,
    flip_byte,
    send_disk,
)


def table_path(store: Store, point: Manifest) -> Path:
    return disk_path(store, point).with_suffix(".grains")


def digests(grains: Grains, count: int) -> bytes:
    names = [grains.get(index) for index in range(count)]
    return b"".join(bytes(16) if name is None else grain_digest(content(name)) for name in names)


def digests_of_parent(store: Store, point: Manifest, count: int = 64) -> bytes:
    """Return what a new incremental on that point would compare with."""
    with begin(store, point) as writer:
        writer.begin_disk(0, "serial-0", 1 << 30, "12345678", True)
        return writer.parent_digests(0, 0, count)


def test_only_the_newest_point_keeps_a_table(store: Store) -> None:
    points = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    assert [table_path(store, point).exists() for point in points] == [False, False, True]


def test_a_table_inherits_and_takes_changes(store: Store) -> None:
    points = add_chain(store, {0: 1, 5: 2}, {5: 3, 6: 4}, {0: None})
    assert digests_of_parent(store, points[-1]) == digests({5: 3, 6: 4}, 64)


def test_the_table_of_any_older_point_is_rebuilt_from_its_chain(store: Store) -> None:
    points = add_chain(store, {0: 1, 5: 2}, {5: 3, 6: 4}, {0: None, 9: 1})
    assert digests_of_parent(store, points[1]) == digests({0: 1, 5: 3, 6: 4}, 64)
    assert digests_of_parent(store, points[0]) == digests({0: 1, 5: 2}, 64)


def test_a_missing_table_is_rebuilt_the_same(store: Store) -> None:
    point = add_chain(store, {0: 1, 700: 2}, {5: 3, 700: None}, capacity_bytes=50 * MIB)[-1]
    path = table_path(store, point)
    before = path.read_bytes()
    path.unlink()
    digests_of_parent(store, point)
    assert path.read_bytes() == before


def test_a_rebuilt_table_that_a_newer_point_removes_at_once_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, _ = add_chain(store, {0: 1, 5: 2}, {5: 3})
    replace = Path.replace

    def replace_and_forget(path: Path, target: Path) -> Path:
        found = replace(path, target)
        if target.suffix == ".grains":
            target.unlink()
        return found

    monkeypatch.setattr(Path, "replace", replace_and_forget)
    assert digests_of_parent(store, older) == digests({0: 1, 5: 2}, 64)
    assert not table_path(store, older).exists()


@pytest.mark.parametrize("offset", [0, 8, 12, 16, 60, 90, 100, 4096, 8192, 8192 + 5 * 16])
def test_a_flipped_byte_makes_it_rebuilt(store: Store, offset: int) -> None:
    point = add_chain(store, {0: 1}, {5: 3})[-1]
    before = table_path(store, point).read_bytes()
    flip_byte(table_path(store, point), offset)
    assert digests_of_parent(store, point) == digests({0: 1, 5: 3}, 64)
    assert table_path(store, point).read_bytes() == before


def test_a_torn_table_never_passes_for_zeros(store: Store) -> None:
    point = add_chain(store, {0: 1}, {5: 3})[-1]
    path = table_path(store, point)
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, bytes(4096), 8192)
    os.close(fd)
    assert digests_of_parent(store, point) == digests({0: 1, 5: 3}, 64)
    path.write_bytes(path.read_bytes()[:5000])
    assert digests_of_parent(store, point) == digests({0: 1, 5: 3}, 64)


def test_the_table_of_another_point_is_stale(store: Store) -> None:
    first = add_point(store, {0: 1})
    other = table_path(store, first).read_bytes()
    second = add_point(store, {0: 2})
    table_path(store, second).write_bytes(other)
    assert digests_of_parent(store, second) == digests({0: 2}, 64)


def test_grains_past_the_parents_end_count_as_zero(store: Store) -> None:
    base = add_point(store, {63: 1}, capacity_bytes=4 * MIB)
    assert digests_of_parent(store, base, 100) == digests({63: 1}, 100)
    grown = add_point(store, {64: 2}, base, capacity_bytes=1 << 30)
    assert digests_of_parent(store, grown, 16384) == digests({63: 1, 64: 2}, 16384)


def test_a_table_of_a_huge_disk_takes_little_room(store: Store) -> None:
    point = add_point(store, {0: 1, 16_000_000: 2}, capacity_bytes=1 << 40)
    assert table_path(store, point).stat().st_size > 256 * MIB
    assert table_path(store, point).stat().st_blocks * 512 < MIB
    assert digests_of_parent_of_huge(store, point) == grain_digest(content(2))


def digests_of_parent_of_huge(store: Store, point: Manifest) -> bytes:
    with begin(store, point) as writer:
        send_disk(writer, 1, {0: 1}, 4 * MIB)
        writer.begin_disk(0, "serial-0", 1 << 40, "12345678", True)
        return writer.parent_digests(0, 16_000_000, 1)


def test_a_whole_disk_has_zeros_for_parent_digests(store: Store) -> None:
    with begin(store) as writer:
        writer.begin_disk(0, "serial-0", 4 * MIB, "12345678", False)
        assert writer.parent_digests(0, 5, 3) == bytes(48)


def test_a_table_that_cannot_be_opened_is_unfit(tmp_path: Path) -> None:
    with pytest.raises(TableUnfit, match="cannot be opened"):
        GrainTable(tmp_path / "disk0.grains", TableOwner("point", 0, "digest"), 4 * MIB)
