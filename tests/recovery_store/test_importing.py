"""Raw images become points: disks that grow, shrink, come and go, and images of any length."""

import os
from pathlib import Path

import pytest

from agent.client.description import MachineDescription
from recovery_store.comparing import find_difference
from recovery_store.errors import ParentUnfit, PointMissing, SourceUnreadable
from recovery_store.importing import import_images
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from recovery_store.vmdk.reader import RawFile
from tests.recovery_store.disks import (
    MIB,
    Grains,
    add_point,
    disk_path,
    flip_byte,
    import_raw,
    qemu_says_same,
    write_raw,
)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return [
        write_raw(tmp_path / "a.raw", {0: 1, 700: 2}, 50 * MIB),
        write_raw(tmp_path / "b.raw", {5: 3}, 4 * MIB),
    ]


def holds(store: Store, point: Manifest, *images: Path) -> bool:
    """Return whether the point holds those disks: by our comparing, qemu's, and the proof."""
    store.prove(point.machine_id, point.point_id)
    assert len(point.disks) == len(images)
    for number, path in enumerate(images):
        with (
            RawFile(path) as image,
            store.open_disk(point.machine_id, point.point_id, number) as disk,
        ):
            if find_difference(disk, image) is not None:
                return False
        assert qemu_says_same(disk_path(store, point, number), path)
    return True


def is_delta(point: Manifest) -> list[bool]:
    return [disk.parent is not None for disk in point.disks]


def test_a_base_image_of_two_disks(store: Store, images: list[Path]) -> None:
    point = import_raw(store, images)
    assert point.kind == "base_image"
    assert holds(store, point, *images)


def test_the_description_names_the_disks_by_their_keys(store: Store, images: list[Path]) -> None:
    base = import_raw(store, images)
    child = import_raw(store, images, base)
    for point in (base, child):
        described = MachineDescription.from_json(point.description)
        assert [disk.key for disk in described.disks] == [disk.key for disk in point.disks]


def test_an_incremental_holds_only_what_changed(store: Store, images: list[Path]) -> None:
    base = import_raw(store, images)
    write_raw(images[0], {0: 1, 700: 2, 701: 9}, 50 * MIB)
    point = import_raw(store, images, base)
    assert is_delta(point) == [True, True]
    assert point.disk(0).file_bytes < base.disk(0).file_bytes
    assert holds(store, point, *images)


def test_a_grown_disk_is_a_delta(store: Store, images: list[Path]) -> None:
    base = import_raw(store, images)
    write_raw(images[1], {5: 3, 100: 4}, 9 * MIB)
    point = import_raw(store, images, base)
    assert is_delta(point) == [True, True]
    assert holds(store, point, *images)


def test_a_disk_that_grows_by_less_than_a_grain_is_a_delta(store: Store, tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(b"a" * 1000)
    points = [import_raw(store, [image])]
    for length in (1500, 65_536, 65_537, 200_000):
        image.write_bytes(b"a" * length)
        points.append(import_raw(store, [image], points[-1]))
        assert is_delta(points[-1]) == [True]
        assert holds(store, points[-1], image)


def test_a_shrunk_disk_is_whole(store: Store, images: list[Path]) -> None:
    base = import_raw(store, images)
    write_raw(images[0], {0: 1}, 40 * MIB)
    point = import_raw(store, images, base)
    assert is_delta(point) == [False, True]
    assert holds(store, point, *images)


def test_an_added_disk_is_whole_and_goes_on_as_a_delta(
    store: Store, images: list[Path], tmp_path: Path
) -> None:
    base = import_raw(store, images)
    images.append(write_raw(tmp_path / "c.raw", {1: 1}, 4 * MIB))
    point = import_raw(store, images, base)
    assert is_delta(point) == [True, True, False]
    again = import_raw(store, images, point)
    assert is_delta(again) == [True, True, True]
    assert holds(store, again, *images)


def test_a_removed_disk_is_gone_and_whole_when_it_comes_back(
    store: Store, images: list[Path]
) -> None:
    base = import_raw(store, images)
    point = import_raw(store, images[:1], base)
    assert holds(store, point, *images[:1])
    back = import_raw(store, images, point)
    assert is_delta(back) == [True, False]
    assert holds(store, back, *images)


def test_disks_that_an_agent_named_go_on_under_their_keys(store: Store, tmp_path: Path) -> None:
    base = add_point(store, {0: 1})
    image = write_raw(tmp_path / "disk.raw", {0: 1, 1: 2}, 4 * MIB)
    point = import_raw(store, [image], base)
    assert point.disk(0).key == "serial-0"
    assert is_delta(point) == [True]
    assert holds(store, point, image)


def test_a_second_base_image_belongs_to_the_same_machine(store: Store, images: list[Path]) -> None:
    first = import_raw(store, images)
    second = import_raw(store, images)
    assert second.machine_id == first.machine_id
    assert store.points(first.machine_id) == [first, second]


def test_a_parent_of_another_machine_or_none_is_refused(store: Store, images: list[Path]) -> None:
    base = import_raw(store, images)
    with pytest.raises(ParentUnfit, match="belongs to machine 'web-01', not 'db-01'"):
        import_images(store, "db-01", images, base.point_id)
    with pytest.raises(PointMissing):
        import_images(store, "web-01", images, base.machine_id)
    assert len(store.points(base.machine_id)) == 1


def test_a_missing_image_leaves_the_store_as_it_was(store: Store, images: list[Path]) -> None:
    with pytest.raises(SourceUnreadable, match=r"gone\.raw"):
        import_raw(store, [*images, images[0].with_name("gone.raw")])
    assert not store.root.exists()


def test_progress_counts_all_disks(store: Store, images: list[Path]) -> None:
    told: list[tuple[int, int]] = []
    import_images(store, "m", images, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (54 * MIB, 54 * MIB)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize(
    "changed",
    [{0: 1, 700: 9}, {0: 1}, {0: 1, 700: 2, 5: 1}, {}],
    ids=["another grain", "a grain less", "a grain more", "nothing"],
)
def test_a_different_image_is_told_by_its_first_byte(
    store: Store, images: list[Path], changed: Grains
) -> None:
    point = import_raw(store, images)
    write_raw(images[0], changed, 50 * MIB)
    assert not holds(store, point, *images)


def test_the_very_byte_is_named(store: Store, images: list[Path]) -> None:
    point = import_raw(store, images)
    flip_byte(images[0], 700 * 65536 + 12345)
    with (
        RawFile(images[0]) as image,
        store.open_disk(point.machine_id, point.point_id, 0) as disk,
    ):
        assert find_difference(disk, image) == f"they differ from byte {700 * 65536 + 12345} on"


def test_written_zeros_and_holes_are_the_same(store: Store, images: list[Path]) -> None:
    point = import_raw(store, images)
    with images[0].open("r+b") as file:
        file.seek(10 * MIB)
        file.write(bytes(MIB))
    assert holds(store, point, *images)


def test_an_image_of_a_tebibyte_is_taken_in_a_moment(store: Store, tmp_path: Path) -> None:
    image = write_raw(tmp_path / "huge.raw", {0: 1, 9_000_000: 2}, 1 << 40)
    base = import_raw(store, [image])
    os.truncate(image, 2 << 40)
    point = import_raw(store, [image], base)
    with store.open_disk(point.machine_id, point.point_id, 0) as disk, RawFile(image) as raw:
        assert find_difference(disk, raw) is None
