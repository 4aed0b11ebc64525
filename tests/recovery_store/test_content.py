"""A point is proven only if its grains inflate to what the machine had, not if its files match."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from recovery_store.archiving import archive, consume
from recovery_store.errors import ChainDamaged, ReplicaDamaged
from recovery_store.importing import new_cid
from recovery_store.manifest import Manifest
from recovery_store.proof import no_point
from recovery_store.store import Store
from recovery_store.vmdk.imaging import grain_digest
from recovery_store.vmdk.writer import StreamWriter
from tests.recovery_store.disks import (
    MACHINE_ID,
    MIB,
    add_chain,
    begin,
    commit,
    compressed,
    content,
    disk_path,
    flip_byte,
    tree_state,
)

Spoil = Callable[[bytes], bytes]
CAPACITY_BYTES = 64 * MIB
GRAINS = 600


def flip_middle(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


SPOILS: dict[str, Spoil] = {
    "does not inflate": flip_middle,
    "inflates to other content": lambda data: compressed(9999),
}


def add_spoilt(store: Store, spoil: Spoil, at: int) -> Manifest:
    """Add a base image with a grain that was damaged before its file was digested."""
    parts: list[bytes] = []
    cid = new_cid()
    stream = StreamWriter(parts.append, CAPACITY_BYTES, cid)
    for index in range(GRAINS):
        data = compressed(index)
        stream.grain(index, spoil(data) if index == at else data)
    stream.finish()
    file = b"".join(parts)
    with begin(store) as writer:
        writer.begin_disk(0, "serial-0", CAPACITY_BYTES, cid, has_parent=False)
        writer.write(0, file)
        digests = [grain_digest(content(index)) for index in range(GRAINS)]
        writer.put_digests(0, 0, b"".join(digests))
        writer.finish_disk(0, len(file), blake3(file).hexdigest())
        return commit(writer)


def send(source: Store, target: Store, point: Manifest) -> None:
    replica = target.begin_replica(point.machine_id, point.to_bytes())
    replica.append("disk0.vmdk", 0, disk_path(source, point).read_bytes())
    replica.commit()


@pytest.mark.parametrize("at", [0, 555, GRAINS - 1])
@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_grain_damaged_before_its_file_was_digested_is_found(
    store: Store, tmp_path: Path, spoil: Spoil, at: int
) -> None:
    point = add_spoilt(store, spoil, at)
    store.prove(MACHINE_ID, point.point_id, needs_content=no_point)
    with pytest.raises(ChainDamaged, match="cannot be restored") as refusal:
        store.prove(MACHINE_ID, point.point_id)
    assert refusal.value.good_point_ids == ()
    assert [finding.file for finding in store.check().findings] == ["disk0.vmdk"]

    target = Store(tmp_path / "target", reserve_bytes=0)
    with pytest.raises(ReplicaDamaged, match="cannot be restored"):
        send(store, target, point)
    assert target.points(MACHINE_ID) == []
    for copy_points in (
        lambda: archive(store, MACHINE_ID, tmp_path / "archive"),
        lambda: consume(target, store.root),
    ):
        with pytest.raises(ChainDamaged, match="cannot be restored"):
            copy_points()


def test_grains_of_a_point_of_the_first_format_are_inflated_too(
    store: Store, tmp_path: Path
) -> None:
    point = add_spoilt(store, flip_middle, 555)
    disks = tuple(replace(disk, content_digest=None) for disk in point.disks)
    old = replace(point, disks=disks).sealed()
    path = disk_path(store, point).with_name("manifest.json")
    path.chmod(0o600)
    path.write_bytes(old.to_bytes())
    assert store.get_point(MACHINE_ID, point.point_id) == old
    with pytest.raises(ChainDamaged, match="grain 555"):
        store.prove(MACHINE_ID, point.point_id)


def test_a_flipped_byte_is_reported_as_such_and_not_as_a_grain(store: Store) -> None:
    point = add_chain(store, {0: 1, 3: 2})[0]
    flip_byte(disk_path(store, point), 128 * 512 + 200)
    (finding,) = store.check().findings
    assert "ranges do not match" in finding.text


def test_a_good_chain_is_proven_by_its_content_and_nothing_is_written(store: Store) -> None:
    chain = add_chain(store, {0: 1, 3: 2}, {1: 3, 3: None}, {60: 4}, capacity_bytes=CAPACITY_BYTES)
    before = tree_state(store.root)
    told: list[tuple[int, int]] = []
    store.prove(MACHINE_ID, chain[-1].point_id, lambda *bytes_: told.append(bytes_))
    total_bytes = sum(point.stored_bytes for point in chain)
    assert told[-1] == (total_bytes, total_bytes)
    assert tree_state(store.root) == before
    assert all(disk.content_digest for point in chain for disk in point.disks)
