"""A point exists completely or not at all, and a sender that lies is refused."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from blake3 import blake3

from recovery_store.errors import (
    ChainBroken,
    ParentUnfit,
    PointExists,
    StoreBusy,
    StreamRefused,
    VmdkLimit,
)
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from recovery_store.vmdk.imaging import grain_digest
from tests.recovery_store.disks import (
    MACHINE_ID,
    MIB,
    NOON,
    add_chain,
    add_point,
    begin,
    commit,
    content,
    disk_path,
    make_stream,
    send_disk,
    tree_state,
)

CID = "12345678"
STREAM = make_stream({0: 1, 3: 2}, 4 * MIB, CID)
DIGEST = blake3(STREAM).hexdigest()


def send(
    writer: Any,
    stream: bytes = STREAM,
    digests: dict[int, int | None] | None = None,
    length_bytes: int | None = None,
    digest_hex: str | None = None,
) -> None:
    """Send a base disk that may lie."""
    writer.begin_disk(0, "serial-0", 4 * MIB, CID, False)
    for start in range(0, len(stream), 1000):
        writer.write(0, stream[start : start + 1000])
    for index, name in ({0: 1, 3: 2} if digests is None else digests).items():
        digest = bytes(16) if name is None else grain_digest(content(name))
        writer.put_digests(0, index, digest)
    writer.finish_disk(
        0,
        len(stream) if length_bytes is None else length_bytes,
        blake3(stream).hexdigest() if digest_hex is None else digest_hex,
    )


def test_a_committed_point_says_what_it_is(store: Store) -> None:
    with begin(store) as writer:
        send(writer)
        manifest = writer.commit({"cpus": 2}, "file_system", "core-1", "Headquarters", 7)
    assert manifest == store.get_point(MACHINE_ID, manifest.point_id)
    assert store.points(MACHINE_ID) == [manifest]
    assert store.find_point(MACHINE_ID, manifest.point_id) == manifest
    assert (manifest.kind, manifest.parent_point_id) == ("base_image", None)
    assert (manifest.owner_core_id, manifest.ownership_epoch) == ("core-1", 7)
    assert manifest.description == {"cpus": 2}
    disk = manifest.disk(0)
    assert (disk.file_bytes, disk.digest) == (len(STREAM), DIGEST)
    assert manifest.stored_bytes == len(STREAM)
    assert disk_path(store, manifest).read_bytes() == STREAM


def test_an_incremental_names_its_parent_and_its_disks(store: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    assert (delta.kind, delta.parent_point_id) == ("incremental", base.point_id)
    assert delta.parent_digest == base.digest
    assert delta.disk(0).parent == (base.point_id, 0)


def test_the_agents_instant_replaces_the_planned_one(store: Store) -> None:
    instant = NOON + timedelta(seconds=30)
    with begin(store) as writer:
        send(writer)
        manifest = writer.commit({}, "crash", "", "", 0, taken_at=instant)
    assert manifest.taken_at == instant
    assert store.get_folder(MACHINE_ID, manifest.point_id).name.startswith("20260501T120030")


def test_leaving_without_commit_leaves_nothing(store: Store) -> None:
    add_point(store, {0: 1})
    before = tree_state(store.root)
    with begin(store) as writer:
        send(writer)
    assert tree_state(store.root) == before
    with pytest.raises(ZeroDivisionError):
        _break_off(store)
    assert tree_state(store.root) == before


def _break_off(store: Store) -> None:
    with begin(store) as writer:
        writer.begin_disk(0, "serial-0", 4 * MIB, CID, False)
        writer.write(0, STREAM[:70_000])
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("lie", "what"),
    [
        ({"length_bytes": len(STREAM) + 512}, "did not arrive as it was sent"),
        ({"digest_hex": "00" * 32}, "did not arrive as it was sent"),
        ({"stream": STREAM[:-512]}, "truncated"),
        ({"stream": STREAM + b"x"}, "after the end of the stream"),
        ({"stream": make_stream({0: 1}, 4 * MIB, "12345679")}, "CID"),
        ({"stream": make_stream({0: 1}, 8 * MIB, CID)}, "capacity"),
        ({"digests": {0: 1}}, "digests do not match the stream, at or near grain 3"),
        ({"digests": {}}, "digests do not match the stream, at or near grain 0"),
        ({"digests": {0: 1, 2: 2, 3: 2}}, "at or near grain 2"),
        ({"digests": {0: 1, 3: None}}, "at or near grain 3"),
        ({"digests": {0: 1, 3: 2, 64: 1}}, "the disk has 64 grains"),
        ({"digests": {0: 1, 3: 2, -1: 1}}, "the disk has 64 grains"),
    ],
    ids=str,
)
def test_a_stream_that_lies_is_refused_and_nothing_stays(
    store: Store, lie: dict[str, Any], what: str
) -> None:
    with begin(store) as writer, pytest.raises(StreamRefused, match=what):
        send(writer, **lie)
    assert store.points(MACHINE_ID) == []
    assert not [name for name in tree_state(store.root) if "points" in name or ".vmdk" in name]


@pytest.mark.parametrize(
    ("grains", "digests", "grain"),
    [
        ({1: 5, 2: 6}, {1: 5}, 2),
        ({1: 5, 2: 6}, {1: 5, 2: 6, 3: 9}, 3),
        ({1: 5, 2: 6}, {1: 5, 2: None}, 2),
        ({0: None}, {0: 1}, 0),
        ({}, {3: 9}, 0),
    ],
)
def test_digests_of_a_delta_must_fit_its_changes(
    store: Store, grains: dict[int, int | None], digests: dict[int, int | None], grain: int
) -> None:
    base = add_point(store, {0: 1, 3: 2})
    with begin(store, base) as writer:
        parent = writer.parent_disks()[0]
        stream = make_stream(grains, 4 * MIB, "00000002", parent.cid, parent.file_hint)
        writer.begin_disk(0, "serial-0", 4 * MIB, "00000002", True)
        writer.write(0, stream)
        for index, name in digests.items():
            digest = bytes(16) if name is None else grain_digest(content(name))
            writer.put_digests(0, index, digest)
        with pytest.raises(StreamRefused, match=f"at or near grain {grain}"):
            writer.finish_disk(0, len(stream), blake3(stream).hexdigest())


def test_a_grain_sent_again_unchanged_is_no_lie(store: Store) -> None:
    base = add_point(store, {0: 1, 1: 2})
    point = add_point(store, {1: 2}, base)
    with store.open_disk(MACHINE_ID, point.point_id, 0) as disk:
        assert disk.read(65536, 65536) == content(2)


def test_a_disk_twice_or_a_number_out_of_range_is_refused(store: Store) -> None:
    with begin(store) as writer:
        send_disk(writer, 0, {0: 1}, 4 * MIB)
        for number, key in ((0, "other"), (1, "serial-0")):
            with pytest.raises(StreamRefused, match="appears twice"):
                writer.begin_disk(number, key, 4 * MIB, CID, False)
        with pytest.raises(StreamRefused, match="from 0 to 255"):
            writer.begin_disk(256, "other", 4 * MIB, CID, False)
        with pytest.raises(VmdkLimit):
            writer.begin_disk(1, "other", 4 * MIB + 1, CID, False)


def test_a_delta_without_a_disk_to_be_one_of_is_refused(store: Store) -> None:
    base = add_point(store, {0: 1})
    with begin(store) as writer, pytest.raises(StreamRefused, match="has no such disk"):
        writer.begin_disk(0, "serial-0", 4 * MIB, CID, True)
    with begin(store, base) as writer:
        with pytest.raises(StreamRefused, match="has no such disk"):
            writer.begin_disk(0, "serial-9", 4 * MIB, CID, True)
        with pytest.raises(StreamRefused, match="has shrunk from 4194304 to 2097152"):
            writer.begin_disk(0, "serial-0", 2 * MIB, CID, True)


def test_bytes_for_a_disk_that_has_not_begun_are_refused(store: Store) -> None:
    with begin(store) as writer, pytest.raises(StreamRefused, match="Disk 3 has not begun"):
        writer.write(3, b"x")


def test_a_point_with_an_unfinished_disk_or_none_is_not_committed(store: Store) -> None:
    with begin(store) as writer:
        with pytest.raises(StreamRefused, match="none was sent"):
            commit(writer)
        writer.begin_disk(0, "serial-0", 4 * MIB, CID, False)
        with pytest.raises(StreamRefused, match="unfinished disks: 0"):
            commit(writer)
    with pytest.raises(StreamRefused, match="is already closed"):
        commit(writer)


def test_a_description_that_cannot_be_read_back_is_not_written(store: Store) -> None:
    with begin(store) as writer:
        send(writer)
        with pytest.raises(ValueError, match="not JSON compliant"):
            writer.commit({"load": float("nan")}, "crash", "", "", 0)
    assert store.points(MACHINE_ID) == []


def test_a_point_id_is_used_once(store: Store) -> None:
    point = add_point(store, {0: 1})
    with pytest.raises(PointExists, match=point.point_id):
        begin(store, point_id=point.point_id)


def test_one_point_has_one_writer_and_its_holder_is_named(store: Store) -> None:
    with begin(store) as writer:
        with pytest.raises(StoreBusy, match='"process": '):
            begin(store, point_id=writer.point_id)
        send(writer)
        commit(writer)
    with begin(store) as writer:
        point_id = writer.point_id
    with begin(store, point_id=point_id):
        pass


def test_a_parent_that_is_not_there_is_refused(store: Store) -> None:
    ghost = Manifest(**{**add_point(store, {0: 1}).__dict__, "point_id": MACHINE_ID})
    with pytest.raises(ParentUnfit, match="take a base image instead"):
        begin(store, ghost)


def test_a_parent_without_its_own_parent_is_refused(store: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    disk_path(store, base).unlink()
    with pytest.raises(ChainBroken, match="is missing"):
        begin(store, delta)


def test_a_parent_that_goes_while_its_child_is_written_ends_the_child(store: Store) -> None:
    base = add_point(store, {0: 1})
    with begin(store, base) as writer:
        send_disk(writer, 0, {1: 2}, 4 * MIB, has_parent=True)
        folder = store.get_folder(MACHINE_ID, base.point_id)
        folder.rename(folder.with_name("gone"))
        with pytest.raises(ParentUnfit, match="was deleted"):
            commit(writer)
    assert store.points(MACHINE_ID) == []


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        store.begin_point(MACHINE_ID, "web-01", MACHINE_ID, taken_at=datetime(2026, 5, 1))  # noqa: DTZ001


@pytest.mark.parametrize("bad_id", ["", "..", "x/y", MACHINE_ID.replace("-", "")])
def test_an_id_that_is_none_never_becomes_a_folder(store: Store, bad_id: str) -> None:
    for machine_id, point_id in ((bad_id, MACHINE_ID), (MACHINE_ID, bad_id)):
        with pytest.raises(ValueError, match=r"badly formed|not an id"):
            store.begin_point(machine_id, "web-01", point_id, taken_at=NOON)
    assert store.points(bad_id) == []
    assert store.find_point(bad_id, MACHINE_ID) is None
    assert store.find_point(MACHINE_ID, bad_id) is None
    assert not store.root.exists()


def test_two_disks_may_arrive_in_turns(store: Store) -> None:
    with begin(store) as writer:
        writer.begin_disk(0, "a", 4 * MIB, CID, False)
        writer.begin_disk(1, "b", 4 * MIB, CID, False)
        for start in range(0, len(STREAM), 5000):
            for number in (0, 1):
                writer.write(number, memoryview(STREAM)[start : start + 5000])
        for number in (1, 0):
            writer.put_digests(number, 0, grain_digest(content(1)))
            writer.put_digests(number, 3, grain_digest(content(2)))
            writer.finish_disk(number, len(STREAM), DIGEST)
        assert [disk.number for disk in commit(writer).disks] == [0, 1]
