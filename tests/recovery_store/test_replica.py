"""A point is taken over from another core in pieces, resumed after cuts, refused when damaged."""

import fcntl
import os
from pathlib import Path

import pytest
from blake3 import blake3

from recovery_store.errors import (
    ManifestDamaged,
    OffsetDiffers,
    ParentUnfit,
    PointExists,
    PointInUse,
    PointMissing,
    ReplicaDamaged,
    ReplicaRefused,
    StoreBusy,
)
from recovery_store.folders import WriterLock
from recovery_store.manifest import DiskEntry, Manifest
from recovery_store.replica import Replica
from recovery_store.store import Store
from tests.recovery_store.disks import (
    MACHINE_ID,
    MIB,
    add_chain,
    begin,
    disk_path,
    flip_byte,
    qemu_says_same,
    send_disk,
    tree_state,
    write_raw,
)
from tests.recovery_store.reading import seen_below


@pytest.fixture
def target(tmp_path: Path) -> Store:
    """The store of the other core."""
    return Store(tmp_path / "target", reserve_bytes=0)


def begin_replica(target: Store, point: Manifest) -> Replica:
    return target.begin_replica(point.machine_id, point.to_bytes())


def send_rest(source: Store, point: Manifest, replica: Replica, slice_bytes: int = 50_000) -> None:
    for disk in point.disks:
        while (offset := replica.offset_bytes(disk.file)) < disk.file_bytes:
            data = source.read_file(
                point.machine_id, point.point_id, disk.file, offset, slice_bytes
            )
            assert replica.append(disk.file, offset, data) == offset + len(data)


def replicate(source: Store, target: Store, point: Manifest) -> Manifest:
    replica = begin_replica(target, point)
    send_rest(source, point, replica)
    return replica.commit()


def partial_path(target: Store, point: Manifest) -> Path:
    unfinished = target.root / "machines" / MACHINE_ID / "unfinished"
    return unfinished / f"replica-{point.point_id}" / "disk0.vmdk"


def test_a_replicated_chain_is_the_same_chain(store: Store, target: Store, tmp_path: Path) -> None:
    points = add_chain(store, {0: 1, 3: 2}, {3: 4}, {0: None})
    for point in points:
        assert replicate(store, target, point) == point
    assert target.points(MACHINE_ID) == points
    target.prove(MACHINE_ID, points[-1].point_id)
    raw = write_raw(tmp_path / "disk.raw", {3: 4}, 4 * MIB)
    assert qemu_says_same(disk_path(target, points[-1]), raw)
    assert target.files(MACHINE_ID, points[-1].point_id) == store.files(
        MACHINE_ID, points[-1].point_id
    )


def test_the_target_goes_on_with_an_incremental_of_its_own(store: Store, target: Store) -> None:
    points = add_chain(store, {0: 1}, {3: 4})
    for point in points:
        replicate(store, target, point)
    with begin(target, points[-1]) as writer:
        send_disk(writer, 0, {5: 6}, 4 * MIB, has_parent=True)
        child = writer.commit({}, "crash", "core-2", "DR site", 2)
    assert replicate(target, store, child) == child
    assert len(store.prove(MACHINE_ID, child.point_id).manifests) == 3


def test_a_cut_replica_goes_on_where_it_stopped(store: Store, target: Store) -> None:
    point = add_chain(store, {index: index for index in range(60)})[0]
    data = disk_path(store, point).read_bytes()
    begin_replica(target, point).append("disk0.vmdk", 0, data[:40_000])
    again = begin_replica(Store(target.root), point)
    assert again.offset_bytes("disk0.vmdk") == 40_000
    again.append("disk0.vmdk", 40_000, data[40_000:])
    assert again.commit() == point


def test_the_store_finds_what_is_arriving_by_itself(store: Store, target: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {index: index for index in range(60)})
    replicate(store, target, base)
    data = disk_path(store, delta).read_bytes()
    begin_replica(target, delta)
    for start in range(0, len(data), 20_000):
        replica = Store(target.root).get_replica(MACHINE_ID, delta.point_id)
        assert replica.offset_bytes("disk0.vmdk") == start
        assert not replica.is_complete
        replica.append("disk0.vmdk", start, data[start : start + 20_000])
    assert target.get_replica(MACHINE_ID, delta.point_id).commit() == delta
    again = target.get_replica(MACHINE_ID, delta.point_id)
    assert again.is_complete
    assert again.commit() == delta
    assert target.prove(MACHINE_ID, delta.point_id).manifests == (base, delta)


def test_a_slice_costs_a_look_at_its_own_manifest_and_file(store: Store, target: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    replicate(store, target, base)
    begin_replica(target, delta)
    with seen_below(partial_path(target, delta).parent.parent) as seen:
        replica = target.get_replica(MACHINE_ID, delta.point_id)
        replica.append("disk0.vmdk", 0, disk_path(store, delta).read_bytes())
    name = f"replica-{delta.point_id}"
    assert seen == [Path(name, "manifest.json"), Path(f"{name}.lock"), Path(name, "disk0.vmdk")]
    with seen_below(target.root / "machines" / MACHINE_ID / "points") as seen:
        target.get_replica(MACHINE_ID, delta.point_id)
    assert seen == []


def test_what_has_not_begun_to_arrive_is_not_found(store: Store, target: Store) -> None:
    point = add_chain(store, {0: 1})[0]
    for machine_id, point_id in (
        (MACHINE_ID, point.point_id),
        (point.point_id, point.point_id),
        ("..", point.point_id),
        (MACHINE_ID, "../../x"),
    ):
        with pytest.raises(PointMissing):
            target.get_replica(machine_id, point_id)
    begin_replica(target, point).discard()
    with pytest.raises(PointMissing):
        target.get_replica(MACHINE_ID, point.point_id)


def test_a_damaged_manifest_of_what_is_arriving_is_refused_until_it_begins_again(
    store: Store, target: Store
) -> None:
    point = add_chain(store, {0: 1})[0]
    begin_replica(target, point).append("disk0.vmdk", 0, b"K")
    path = partial_path(target, point).with_name("manifest.json")
    for harm in (lambda: flip_byte(path, 700), path.unlink):
        harm()
        with pytest.raises(ManifestDamaged, match=r"manifest\.json"):
            target.get_replica(MACHINE_ID, point.point_id)
        assert begin_replica(target, point).offset_bytes("disk0.vmdk") == 0
    send_rest(store, point, target.get_replica(MACHINE_ID, point.point_id))
    assert target.get_replica(MACHINE_ID, point.point_id).commit() == point


def test_a_point_that_is_committed_while_it_begins_again_leaves_nothing_behind(
    store: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = add_chain(store, {0: 1})[0]
    replica = begin_replica(target, point)
    send_rest(store, point, replica)
    flock = fcntl.flock

    def flock_late(fd: int, operation: int) -> None:
        monkeypatch.undo()
        replica.commit()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    assert begin_replica(target, point).is_complete
    assert not partial_path(target, point).parent.exists()


def test_nothing_is_to_be_seen_before_commit(store: Store, target: Store) -> None:
    point = add_chain(store, {0: 1})[0]
    replica = begin_replica(target, point)
    send_rest(store, point, replica)
    assert target.points(MACHINE_ID) == []
    assert target.find_point(MACHINE_ID, point.point_id) is None
    report = target.check()
    assert report.is_good
    assert report.leftovers == ()
    replica.commit()
    assert target.points(MACHINE_ID) == [point]


def test_commit_and_beginning_again_are_harmless(store: Store, target: Store) -> None:
    point = add_chain(store, {0: 1})[0]
    replicate(store, target, point)
    before = tree_state(target.root)
    again = begin_replica(target, point)
    assert again.is_complete
    assert again.offset_bytes("disk0.vmdk") == point.disk(0).file_bytes
    with pytest.raises(OffsetDiffers):
        again.append("disk0.vmdk", 0, b"x")
    assert again.commit() == point
    again.discard()
    assert tree_state(target.root) == before


def test_bytes_for_another_offset_are_refused_with_the_right_one(
    store: Store, target: Store
) -> None:
    point = add_chain(store, {0: 1})[0]
    replica = begin_replica(target, point)
    replica.append("disk0.vmdk", 0, disk_path(store, point).read_bytes()[:1000])
    for offset in (0, 999, 1001):
        with pytest.raises(OffsetDiffers) as refusal:
            replica.append("disk0.vmdk", offset, b"x")
        assert refusal.value.expected_bytes == 1000


def test_more_bytes_than_the_file_has_and_foreign_files_are_refused(
    store: Store, target: Store
) -> None:
    point = add_chain(store, {0: 1})[0]
    replica = begin_replica(target, point)
    with pytest.raises(ReplicaRefused, match="were sent"):
        replica.append("disk0.vmdk", 0, bytes(point.disk(0).file_bytes + 1))
    for name in ("disk1.vmdk", "manifest.json", "../lock", "/etc/passwd"):
        with pytest.raises(ReplicaRefused, match="has no file"):
            replica.append(name, 0, b"x")


def test_a_child_without_its_parent_is_refused(store: Store, target: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    with pytest.raises(ParentUnfit, match=base.point_id):
        begin_replica(target, delta)


def test_a_child_of_another_parent_is_refused(store: Store, target: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    with begin(target, point_id=base.point_id) as writer:
        send_disk(writer, 0, {0: 7}, 4 * MIB)
        writer.commit({}, "crash", "", "", 0)
    with pytest.raises(ParentUnfit, match="a different parent"):
        begin_replica(target, delta)
    with pytest.raises(PointExists, match="with different content"):
        begin_replica(target, base)


def test_a_damaged_manifest_or_one_of_another_machine_is_refused(
    store: Store, target: Store
) -> None:
    point = add_chain(store, {0: 1})[0]
    with pytest.raises(ManifestDamaged):
        target.begin_replica(MACHINE_ID, point.to_bytes()[:-3])
    with pytest.raises(ReplicaRefused, match="belongs to machine"):
        target.begin_replica(point.point_id, point.to_bytes())
    assert not target.root.exists()


def test_a_range_damaged_on_the_way_is_refused_at_once_and_sent_again(
    store: Store, target: Store
) -> None:
    point = add_chain(store, {0: 1})[0]
    data = disk_path(store, point).read_bytes()
    replica = begin_replica(target, point)
    replica.append("disk0.vmdk", 0, data[:1000])
    with pytest.raises(ReplicaDamaged, match="send them again from 0"):
        replica.append("disk0.vmdk", 1000, b"x" + data[1001:])
    assert replica.offset_bytes("disk0.vmdk") == 0
    send_rest(store, point, replica)
    assert replica.commit() == point


def test_damage_on_the_disk_is_found_at_commit_and_named(store: Store, target: Store) -> None:
    point = add_chain(store, {0: 1})[0]
    replica = begin_replica(target, point)
    send_rest(store, point, replica)
    flip_byte(partial_path(target, point), 70_000)
    with pytest.raises(ReplicaDamaged, match=r"disk0\.vmdk .* from byte 0;"):
        replica.commit()
    assert target.points(MACHINE_ID) == []
    send_rest(store, point, replica)
    assert replica.commit() == point


def test_a_file_that_is_not_whole_is_not_committed(store: Store, target: Store) -> None:
    point = add_chain(store, {0: 1})[0]
    replica = begin_replica(target, point)
    with pytest.raises(ReplicaRefused, match=f"0 of {point.stored_bytes} bytes"):
        replica.commit()
    partial_path(target, point).write_bytes(bytes(point.stored_bytes + 512))
    with pytest.raises(ReplicaRefused, match="incomplete"):
        replica.commit()


def forged(point: Manifest, data: bytes, **changes: object) -> Manifest:
    """Return the manifest of a peer that lies consistently about its first disk."""
    disk = point.disk(0).__dict__ | {
        "file_bytes": len(data),
        "digest": blake3(data).hexdigest(),
        "range_digests": (blake3(data).hexdigest(),),
        **changes,
    }
    return Manifest(**{**point.__dict__, "disks": (DiskEntry(**disk),)}).sealed()


def test_a_peer_whose_file_is_no_stream_is_refused(store: Store, target: Store) -> None:
    point = add_chain(store, {0: 1})[0]
    data = bytearray(disk_path(store, point).read_bytes())
    data[-1500] ^= 1
    liar = forged(point, bytes(data))
    replica = begin_replica(target, liar)
    replica.append("disk0.vmdk", 0, data)
    with pytest.raises(ReplicaRefused, match="not a valid VMDK stream: The stream is wrong"):
        replica.commit()
    replica.discard()
    assert not partial_path(target, point).exists()


def test_a_peer_whose_two_digests_differ_is_refused(store: Store, target: Store) -> None:
    point = add_chain(store, {0: 1})[0]
    data = disk_path(store, point).read_bytes()
    replica = begin_replica(target, forged(point, data, digest="00" * 32))
    replica.append("disk0.vmdk", 0, data)
    with pytest.raises(ReplicaDamaged, match="does not match its digest"):
        replica.commit()
    assert replica.offset_bytes("disk0.vmdk") == 0


def test_pieces_of_another_state_of_the_point_are_dropped(store: Store, target: Store) -> None:
    point = add_chain(store, {0: 1})[0]
    data = disk_path(store, point).read_bytes()
    begin_replica(target, forged(point, data, key="other")).append("disk0.vmdk", 0, data[:900])
    replica = begin_replica(target, point)
    assert replica.offset_bytes("disk0.vmdk") == 0


def test_two_requests_for_one_point_take_turns(
    store: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = add_chain(store, {0: 1})[0]
    replica = begin_replica(target, point)
    monkeypatch.setattr("recovery_store.replica._LOCK_TIMEOUT_SECONDS", 0.1)
    with (
        WriterLock(partial_path(target, point).parent.parent, f"replica-{point.point_id}"),
        pytest.raises(StoreBusy),
    ):
        replica.append("disk0.vmdk", 0, b"x")
    send_rest(store, point, replica)
    assert replica.commit() == point


def test_a_parent_deleted_meanwhile_ends_the_replica(store: Store, target: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    replicate(store, target, base)
    replica = begin_replica(target, delta)
    send_rest(store, delta, replica)
    target.delete_point(MACHINE_ID, base.point_id)
    with pytest.raises(ReplicaRefused, match="was deleted"):
        replica.commit()
    with pytest.raises(PointMissing):
        target.get_point(MACHINE_ID, delta.point_id)


def test_a_parent_that_goes_during_the_last_proof_ends_the_replica(
    store: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    replicate(store, target, base)
    replica = begin_replica(target, delta)
    send_rest(store, delta, replica)
    parent = target.get_folder(MACHINE_ID, base.point_id)

    def take_parent_away(fd: int) -> None:
        """Like somebody with `rm`; the store itself would refuse."""
        if parent.exists():
            parent.rename(target.root / "elsewhere")

    monkeypatch.setattr(os, "fsync", take_parent_away)
    with pytest.raises(ReplicaRefused, match="was deleted"):
        replica.commit()
    assert target.points(MACHINE_ID) == []


def test_the_parent_of_what_is_being_committed_is_not_deleted(
    store: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    replicate(store, target, base)
    replica = begin_replica(target, delta)
    send_rest(store, delta, replica)

    def delete_parent(fd: int) -> None:
        monkeypatch.undo()
        with pytest.raises(PointInUse, match="being written"):
            target.delete_point(MACHINE_ID, base.point_id)

    monkeypatch.setattr(os, "fsync", delete_parent)
    assert replica.commit() == delta
