"""A full store says so, and nothing half stays; on a real small file system."""

import os
import resource
import subprocess
import sys
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from recovery_store.archiving import archive
from recovery_store.errors import StoreError, StoreFull
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from recovery_store.vmdk.layout import GRAIN_BYTES
from recovery_store.vmdk.writer import StreamWriter
from tests.mounting import mounted_tmpfs
from tests.recovery_store.disks import (
    MACHINE_ID,
    MIB,
    add_point,
    begin,
    disk_path,
    import_raw,
    tree_state,
)

LIMIT_BYTES = 3 * MIB
BIG_GRAINS = 100
_STORE = [sys.executable, "-m", "recovery_store"]


@pytest.fixture(params=["file system", "file size"])
def small_root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A place where a file of 6 MiB does not fit.

    A file system of its own, and a limit on the length of files, which the kernel enforces with an
    error of its own.
    """
    root = tmp_path / "small"
    root.mkdir()
    if request.param == "file system":
        with mounted_tmpfs(root, LIMIT_BYTES):
            yield root
        return
    yield from _limited(root)


def _limited(root: Path) -> Iterator[Path]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, before[1]))
    try:
        yield root
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def big_stream(cid: str = "12345678") -> bytes:
    """Return a stream of 6 MiB that nobody can compress."""
    parts: list[bytes] = []
    writer = StreamWriter(parts.append, BIG_GRAINS * GRAIN_BYTES, cid)
    for index in range(BIG_GRAINS):
        writer.grain(index, zlib.compress(os.urandom(GRAIN_BYTES), 0))
    writer.finish()
    return b"".join(parts)


def send_big(store: Store, parent: Manifest | None = None) -> None:
    stream = big_stream()
    with begin(store, parent) as writer:
        writer.begin_disk(0, "big", BIG_GRAINS * GRAIN_BYTES, "12345678", False)
        for start in range(0, len(stream), 100_000):
            writer.write(0, stream[start : start + 100_000])


def test_a_point_that_does_not_fit_leaves_nothing(small_root: Path) -> None:
    store = Store(small_root / "store", reserve_bytes=0)
    point = add_point(store, {0: 1})
    before = tree_state(small_root)
    with pytest.raises(StoreFull, match="is full while writing disk 0") as refusal:
        send_big(store, point)
    assert refusal.value.code == "STORE-FULL"
    assert tree_state(small_root) == before
    store.prove(MACHINE_ID, point.point_id)
    add_point(store, {1: 2}, point)


def test_a_replica_that_does_not_fit_keeps_what_came_and_goes_on_later(
    small_root: Path, tmp_path: Path
) -> None:
    target = Store(small_root / "store", reserve_bytes=0)
    add_point(target, {0: 1})
    stream = big_stream()
    manifest = _manifest_of(stream, tmp_path)
    try:
        replica = target.begin_replica(MACHINE_ID, manifest.to_bytes())
    except StoreFull:
        return  # the file system itself says beforehand that it will not fit
    offset = replica.append("disk0.vmdk", 0, stream[: LIMIT_BYTES - 1000])
    with pytest.raises(StoreFull, match=r"while receiving disk0\.vmdk"):
        replica.append("disk0.vmdk", offset, stream[offset : offset + 700_000])
    assert replica.offset_bytes("disk0.vmdk") == offset
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 * MIB, resource.RLIM_INFINITY))
    replica.append("disk0.vmdk", offset, stream[offset:])
    assert replica.commit().point_id == manifest.point_id


def _manifest_of(stream: bytes, tmp_path: Path) -> Manifest:
    """Return the manifest that a peer with enough room would send."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
    try:
        source = Store(tmp_path / "roomy", reserve_bytes=0)
        point = add_point(source, {0: 1}, capacity_bytes=BIG_GRAINS * GRAIN_BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    ranges = [stream[at : at + 4 * MIB] for at in range(0, len(stream), 4 * MIB)]
    entry = point.disk(0).__dict__ | {
        "cid": "12345678",
        "file_bytes": len(stream),
        "digest": blake3(stream).hexdigest(),
        "content_digest": None,
        "range_digests": tuple(blake3(part).hexdigest() for part in ranges),
    }
    disks = (type(point.disk(0))(**entry),)
    return Manifest(**{**point.__dict__, "point_id": str(uuid.uuid4()), "disks": disks}).sealed()


def _roomy_store(tmp_path: Path) -> tuple[Store, list[str]]:
    """Return a store where the limit does not hold, with a small point and a big one on it."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
    store = Store(tmp_path / "roomy", reserve_bytes=0)
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(6 * MIB))
    base = import_raw(store, [image])
    image.write_bytes(os.urandom(6 * MIB))
    big = import_raw(store, [image], base)
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    return store, [base.point_id, big.point_id]


def test_an_export_that_does_not_fit_leaves_no_file(small_root: Path, tmp_path: Path) -> None:
    store, (_, point_id) = _roomy_store(tmp_path)
    result = subprocess.run(
        [*_STORE, "export", store.root, point_id, "0", small_root / "out.vmdk"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert list(small_root.iterdir()) == []


def test_an_archive_that_does_not_fit_holds_whole_points_only(
    small_root: Path, tmp_path: Path
) -> None:
    store, (base_id, big_id) = _roomy_store(tmp_path)
    (machine_id,) = store.machine_ids()
    folder = small_root / "archive"
    with pytest.raises(StoreFull, match="is full while"):
        archive(store, machine_id, folder)
    archived = Store(folder)
    # A full disk is seen beforehand, a limit on files only on the way.
    assert [point.point_id for point in archived.points(machine_id)] in ([], [base_id])
    assert [path for path in folder.glob("machines/*/unfinished/*") if path.is_dir()] == []
    assert archive(store, machine_id, folder, base_id) == [base_id]
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
    roomy = tmp_path / "archive"
    assert archive(store, machine_id, roomy) == [base_id, big_id]


def test_the_reserve_stays_free(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    store = Store(tmp_path / "store", reserve_bytes=free.f_blocks * free.f_frsize * 2)
    with pytest.raises(StoreFull, match="and a reserve of"):
        begin(store)
    assert not list(store.root.rglob("*.lock"))
    assert not list(store.root.rglob(MACHINE_ID + "/unfinished/*"))


def test_a_point_ends_before_it_eats_into_the_reserve(tmp_path: Path) -> None:
    """The file system itself would have room for all of it."""
    image = tmp_path / "disk.raw"
    image.write_bytes(os.urandom(40 * MIB))
    small = tmp_path / "small"
    small.mkdir()
    with mounted_tmpfs(small, 64 * MIB):
        store = Store(small / "store", reserve_bytes=40 * MIB)
        with pytest.raises(StoreFull, match="and a reserve of"):
            import_raw(store, [image])


def test_a_store_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    store = Store(Path("/proc/no-such-store"))
    with pytest.raises(StoreError, match="cannot be used") as refusal:
        begin(store)
    assert isinstance(refusal.value.__cause__, OSError)


def test_a_point_on_the_default_reserve_of_a_small_file_system_fits(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    point = add_point(store, {0: 1})
    assert disk_path(store, point).exists()
