"""What a store tells about its points, and how they are deleted."""

import os
import shutil
import stat
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from recovery_store.errors import (
    ChainBroken,
    DiskMissing,
    ManifestDamaged,
    PointInUse,
    PointMissing,
    StoreUnusable,
)
from recovery_store.inventory import find_culprits
from recovery_store.store import Store
from tests.recovery_store.disks import (
    MACHINE_ID,
    MIB,
    add_chain,
    add_point,
    begin,
    commit,
    content,
    disk_path,
    flip_byte,
    qemu_says_same,
    send_disk,
    write_raw,
)
from tests.recovery_store.reading import seen_below
from tests.recovery_store.test_manifest import make_manifest

GHOST = "99999999-2222-4333-8444-555555555555"


def test_an_empty_store_is_empty_and_makes_no_folder(store: Store) -> None:
    assert store.machine_ids() == []
    assert store.points(MACHINE_ID) == []
    assert store.find_point(MACHINE_ID, GHOST) is None
    assert store.find_machine_of(GHOST) is None
    assert store.find_newest(MACHINE_ID) is None
    assert store.check().is_good
    assert not store.root.exists()


def test_points_come_oldest_first_and_a_chain_base_first(store: Store) -> None:
    points = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    assert store.machine_ids() == [MACHINE_ID]
    assert store.points(MACHINE_ID) == points
    assert store.chain(MACHINE_ID, points[1].point_id) == points[:2]
    assert store.find_newest(MACHINE_ID) == points[2]


def test_every_point_of_a_chain_is_a_qemu_image_of_its_state(store: Store, tmp_path: Path) -> None:
    points = add_chain(store, {0: 1, 9: 2}, {9: 3, 12: 4}, {0: None, 12: 5})
    states = ({0: 1, 9: 2}, {0: 1, 9: 3, 12: 4}, {9: 3, 12: 5})
    for point, grains in zip(points, states, strict=True):
        raw = write_raw(tmp_path / "disk.raw", grains, 4 * MIB)
        assert qemu_says_same(disk_path(store, point), raw)
        with store.open_disk(MACHINE_ID, point.point_id, 0) as disk:
            assert disk.read(0, 4 * MIB) == raw.read_bytes()


def test_exports_of_the_same_point_are_the_same_bytes(store: Store) -> None:
    point = add_chain(store, {0: 1}, {1: 2})[-1]
    streams = []
    for _ in range(2):
        with store.plan_export(MACHINE_ID, point.point_id, 0) as plan:
            streams.append(b"".join(plan.read_chunks()))
    assert streams[0] == streams[1]


def test_two_branches_of_one_parent_stay_apart(store: Store) -> None:
    base = add_point(store, {0: 1})
    left = add_point(store, {0: 2}, base)
    right = add_point(store, {1: 3}, base)
    with store.open_disk(MACHINE_ID, left.point_id, 0) as disk:
        assert disk.read(0, 131072) == content(2) + bytes(65536)
    with store.open_disk(MACHINE_ID, right.point_id, 0) as disk:
        assert disk.read(0, 131072) == content(1) + content(3)


def test_what_is_not_there_is_named(store: Store) -> None:
    point = add_point(store, {0: 1})
    for ask in (store.get_point, store.chain, store.prove, store.get_folder, store.delete_point):
        with pytest.raises(PointMissing, match=GHOST):
            ask(MACHINE_ID, GHOST)
        with pytest.raises(PointMissing):
            ask(GHOST, point.point_id)
    with pytest.raises(DiskMissing, match="no disk 4"):
        store.plan_export(MACHINE_ID, point.point_id, 4)
    with pytest.raises(PointMissing, match=r"no file 'disk4\.vmdk'"):
        store.read_file(MACHINE_ID, point.point_id, "disk4.vmdk", 0, 1)


def test_a_point_is_found_without_a_look_at_other_machines(store: Store) -> None:
    base, newest = add_chain(store, {0: 1}, {1: 2})
    for number in range(300):
        other = store.root / "machines" / str(uuid.UUID(int=number)) / "points"
        (other / f"20260501T120000.000000Z-{uuid.UUID(int=number)}").mkdir(parents=True)
    points = Path("machines", MACHINE_ID, "points")
    with seen_below(store.root) as seen:
        assert store.find_point(MACHINE_ID, newest.point_id) == newest
    assert seen == [points, points / newest.folder_name / "manifest.json"]
    with seen_below(store.root) as seen:
        assert store.find_point(MACHINE_ID, GHOST) is None
    assert seen == [points]
    with seen_below(store.root) as seen:
        assert store.chain(MACHINE_ID, newest.point_id) == [base, newest]
        store.delete_point(MACHINE_ID, newest.point_id)
    assert {path.parts[1] for path in seen} == {MACHINE_ID}


def test_the_machine_of_a_point_is_found(store: Store) -> None:
    point = add_point(store, {0: 1})
    with store.begin_point(GHOST, "db-01", GHOST, taken_at=point.taken_at) as writer:
        send_disk(writer, 0, {0: 1}, 4 * MIB)
        commit(writer)
    assert store.find_machine_of(point.point_id) == MACHINE_ID
    assert store.find_machine_of(GHOST) == GHOST
    assert store.find_machine_of(MACHINE_ID) is None
    assert store.find_point(MACHINE_ID, GHOST) is None


def test_files_are_listed_in_sending_order_and_read_in_slices(store: Store) -> None:
    with begin(store) as writer:
        for number in (1, 0):
            send_disk(writer, number, {number: 1}, 4 * MIB)
        point = writer.commit({}, "crash", "", "", 0)
    files = store.files(MACHINE_ID, point.point_id)
    assert [file.name for file in files] == ["disk0.vmdk", "disk1.vmdk", "manifest.json"]
    for file in files:
        data = store.read_file(MACHINE_ID, point.point_id, file.name, 0, 1 << 30)
        assert len(data) == file.length_bytes
        part = store.read_file(MACHINE_ID, point.point_id, file.name, 100, 50)
        assert part == data[100:150]
    assert data == point.to_bytes()


def test_a_slice_is_read_without_the_manifest(store: Store) -> None:
    point = add_point(store, {0: 1})
    points = Path("machines", MACHINE_ID, "points")
    with seen_below(store.root) as seen:
        data = store.read_file(MACHINE_ID, point.point_id, "disk0.vmdk", 512, 1024)
    assert data == disk_path(store, point).read_bytes()[512:1536]
    assert seen == [points, points / point.folder_name / "disk0.vmdk"]


@pytest.mark.parametrize(
    "name", ["", ".", "disk0.grains", "../../lock", "disk00001.vmdk", "disk0.vmdk\n", "/etc/passwd"]
)
def test_only_the_files_of_a_point_are_read(store: Store, name: str) -> None:
    point = add_point(store, {0: 1})
    with pytest.raises(PointMissing, match="has no file"):
        store.read_file(MACHINE_ID, point.point_id, name, 0, 1)


def test_a_file_that_cannot_be_read_is_named(store: Store) -> None:
    path = disk_path(store, add_point(store, {0: 1}))
    path.unlink()
    path.mkdir()
    (point,) = store.points(MACHINE_ID)
    with pytest.raises(StoreUnusable, match=r"disk0\.vmdk cannot be read"):
        store.read_file(MACHINE_ID, point.point_id, "disk0.vmdk", 0, 1)


def test_a_point_with_children_is_not_deleted(store: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    with pytest.raises(PointInUse, match=delta.point_id):
        store.delete_point(MACHINE_ID, base.point_id)
    store.delete_point(MACHINE_ID, delta.point_id)
    store.delete_point(MACHINE_ID, base.point_id)
    assert store.points(MACHINE_ID) == []
    assert not list(store.root.rglob("*.vmdk"))


def test_a_point_whose_child_is_being_written_is_not_deleted(store: Store) -> None:
    base = add_point(store, {0: 1})
    with begin(store, base), pytest.raises(PointInUse, match=r"\(being written\)"):
        store.delete_point(MACHINE_ID, base.point_id)
    store.delete_point(MACHINE_ID, base.point_id)


def test_an_export_goes_on_while_its_point_is_deleted(store: Store) -> None:
    point = add_point(store, {index: index for index in range(60)})
    with store.plan_export(MACHINE_ID, point.point_id, 0) as plan:
        store.delete_point(MACHINE_ID, point.point_id)
        assert sum(len(chunk) for chunk in plan.read_chunks()) == plan.length_bytes


def test_a_damaged_manifest_is_never_taken_for_no_point(store: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    flip_byte(disk_path(store, base).with_name("manifest.json"), 30)
    assert store.points(MACHINE_ID) == [delta]
    assert len(store.unreadable_points(MACHINE_ID)) == 1
    for ask in (store.get_point, store.files):
        with pytest.raises(ManifestDamaged, match=r"manifest\.json"):
            ask(MACHINE_ID, base.point_id)
    with pytest.raises(ManifestDamaged):
        store.find_point(MACHINE_ID, base.point_id)
    with pytest.raises(ChainBroken, match=r"manifest\.json"):
        store.chain(MACHINE_ID, delta.point_id)


def test_a_manifest_in_a_folder_of_another_name_is_damaged(store: Store) -> None:
    point = add_point(store, {0: 1})
    folder = store.get_folder(MACHINE_ID, point.point_id)
    folder.rename(folder.with_name(f"20200101T000000.000000Z-{point.point_id}"))
    with pytest.raises(ManifestDamaged, match="wrong folder"):
        store.get_point(MACHINE_ID, point.point_id)


def test_the_manifest_of_another_machine_is_damaged(store: Store) -> None:
    point = add_point(store, {0: 1})
    folder = store.get_folder(MACHINE_ID, point.point_id)
    there = store.root / "machines" / GHOST
    shutil.copytree(folder, there / "points" / folder.name)
    shutil.copytree(folder, there / "unfinished" / f"replica-{point.point_id}")
    for ask in (store.get_point, store.find_point, store.find_arriving):
        with pytest.raises(ManifestDamaged, match="belongs to another"):
            ask(GHOST, point.point_id)


def test_a_parent_put_in_anothers_place_is_noticed(store: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    folder = store.get_folder(MACHINE_ID, base.point_id)
    shutil.rmtree(folder)
    with begin(store, point_id=base.point_id) as writer:
        send_disk(writer, 0, {0: 7}, 4 * MIB)
        other = writer.commit({}, "crash", "", "", 0)
    with pytest.raises(ChainBroken, match="not the one that its child"):
        store.chain(MACHINE_ID, delta.point_id)
    report = store.check()
    assert report.good_points == (other,)
    assert [(fault.code, fault.point_id) for fault in report.findings] == [
        ("broken", delta.point_id)
    ]
    assert store.complete_point_ids(MACHINE_ID) == [other.point_id]


def test_points_that_are_each_others_parents_are_of_no_use() -> None:
    first, second = (
        make_manifest(
            point_id=str(uuid.UUID(int=number)),
            parent_point_id=str(uuid.UUID(int=3 - number)),
            disks=(),
        )
        for number in (1, 2)
    )
    first = replace(first, digest="1", parent_digest="2")
    second = replace(second, digest="2", parent_digest="1")
    assert None not in find_culprits([first, second], set()).values()


def test_a_manifest_of_a_tebibyte_is_refused_without_being_read(store: Store) -> None:
    point = add_point(store, {0: 1})
    os.truncate(disk_path(store, point).with_name("manifest.json"), 1 << 40)
    with pytest.raises(ManifestDamaged, match="too long"):
        store.get_point(MACHINE_ID, point.point_id)


def test_a_later_point_may_be_older_by_the_clock(store: Store) -> None:
    base = add_point(store, {0: 1})
    with store.begin_point(
        MACHINE_ID,
        "web-01",
        GHOST,
        base.point_id,
        taken_at=base.taken_at - timedelta(days=1),
    ) as writer:
        send_disk(writer, 0, {1: 2}, 4 * MIB, has_parent=True)
        child = writer.commit({}, "crash", "", "", 0)
    assert store.chain(MACHINE_ID, child.point_id) == [base, child]


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "machines").write_text("no folder")
    store = Store(tmp_path / "store")
    with pytest.raises(StoreUnusable, match="cannot be read"):
        store.machine_ids()
    with pytest.raises(StoreUnusable, match="cannot be used"):
        begin(store)


def test_files_of_a_point_are_plain_files(store: Store) -> None:
    point = add_point(store, {0: 1})
    for path in store.get_folder(MACHINE_ID, point.point_id).iterdir():
        assert stat.S_ISREG(path.lstat().st_mode)
