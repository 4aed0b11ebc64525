"""Small disks, streams and points for the tests of the store; all of them real files."""

import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pyvmdk
from blake3 import blake3

from recovery_store.importing import import_images, new_cid
from recovery_store.manifest import Manifest
from recovery_store.point_writer import PointWriter
from recovery_store.store import Store
from recovery_store.vmdk.deflate import deflate
from recovery_store.vmdk.imaging import grain_digest
from recovery_store.vmdk.layout import GRAIN_BYTES, grain_count
from recovery_store.vmdk.writer import StreamWriter

MIB = 1 << 20
MACHINE_ID = "11111111-2222-4333-8444-555555555555"
MACHINE_NAME = "web-01"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)

# What a grain of the disk holds: a content by its number, None for zeros.
Grains = Mapping[int, int | None]


@lru_cache(maxsize=256)
def content(number: int) -> bytes:
    """Return a grain's content, different for each number, neither zeros nor noise."""
    line = f"grain content {number}: the quick brown fox\n".encode()
    noise = blake3(line).digest(length=600)
    return (noise + line * (GRAIN_BYTES // len(line) + 1))[:GRAIN_BYTES]


@lru_cache(maxsize=256)
def compressed(number: int) -> bytes:
    return deflate(content(number))


def make_stream(
    grains: Grains,
    capacity_bytes: int,
    cid: str = "12345678",
    parent_cid: str | None = None,
    parent_file_hint: str | None = None,
) -> bytes:
    """Return a VMDK stream with those grains; None is a zero grain in a delta, nothing else."""
    parts: list[bytes] = []
    writer = StreamWriter(parts.append, capacity_bytes, cid, parent_cid, parent_file_hint)
    for index in sorted(grains):
        number = grains[index]
        if number is not None:
            writer.grain(index, compressed(number))
        elif parent_cid is not None:
            writer.zero_grain(index)
    writer.finish()
    return b"".join(parts)


def without_sections(data: bytes) -> bytes:
    """Return a stream or descriptor with its descriptor as older versions wrote it."""
    start = data.index(b"# Disk DescriptorFile\n")
    end = start + 20 * 512
    encoding = b'encoding="UTF-8"\n'
    lines = data[start:end].rstrip(b"\0").replace(b"\n" + encoding, b"\n").split(b"\n")
    kept = [line for line in lines[1:] if line and not line.startswith(b"#")]
    extent = next(i for i, line in enumerate(kept) if line.startswith(b"RW ")) + 1
    text = b"\n".join([lines[0], *kept[:extent], encoding.strip(), *kept[extent:], b""])
    return data[:start] + text.ljust(20 * 512, b"\0") + data[end:]


def raw_bytes(grains: Grains, capacity_bytes: int) -> bytes:
    """Return the disk that those grains make."""
    data = bytearray(grain_count(capacity_bytes) * GRAIN_BYTES)
    for index, number in grains.items():
        if number is not None:
            data[index * GRAIN_BYTES : (index + 1) * GRAIN_BYTES] = content(number)
    return bytes(data[:capacity_bytes])


def write_raw(path: Path, grains: Grains, capacity_bytes: int) -> Path:
    """Write the disk as a raw image with holes."""
    with path.open("wb") as file:
        file.truncate(capacity_bytes)
        for index, number in sorted(grains.items()):
            if number is not None:
                file.seek(index * GRAIN_BYTES)
                file.write(content(number)[: capacity_bytes - index * GRAIN_BYTES])
    return path


def send_disk(
    writer: PointWriter,
    number: int,
    grains: Grains,
    capacity_bytes: int,
    key: str | None = None,
    has_parent: bool = False,
) -> None:
    """Send a disk to a point as an agent does; with a parent, `grains` are the changes."""
    key = key or f"serial-{number}"
    parent = next((disk for disk in writer.parent_disks() if disk.key == key), None)
    assert parent or not has_parent
    cid = new_cid()
    stream = make_stream(
        grains,
        capacity_bytes,
        cid,
        parent.cid if parent and has_parent else None,
        parent.file_hint if parent and has_parent else None,
    )
    writer.begin_disk(number, key, capacity_bytes, cid, has_parent)
    writer.write(number, stream)
    for index, name in sorted(grains.items()):
        digest = bytes(16) if name is None else grain_digest(content(name))
        writer.put_digests(number, index, digest)
    writer.finish_disk(number, len(stream), blake3(stream).hexdigest())


def begin(store: Store, parent: Manifest | None = None, point_id: str | None = None) -> PointWriter:
    taken_at = parent.taken_at + timedelta(minutes=1) if parent else NOON
    return store.begin_point(
        parent.machine_id if parent else MACHINE_ID,
        MACHINE_NAME,
        point_id or str(uuid.uuid4()),
        parent.point_id if parent else None,
        taken_at=taken_at,
    )


def commit(writer: PointWriter) -> Manifest:
    return writer.commit({"hostname": MACHINE_NAME}, "crash", "core-1", "Headquarters", 1)


def add_point(
    store: Store,
    grains: Grains,
    parent: Manifest | None = None,
    capacity_bytes: int = 4 * MIB,
) -> Manifest:
    """Add a point of one disk; with a parent, `grains` are the changes."""
    with begin(store, parent) as writer:
        send_disk(writer, 0, grains, capacity_bytes, has_parent=parent is not None)
        return commit(writer)


def add_chain(store: Store, *changes: Grains, capacity_bytes: int = 4 * MIB) -> list[Manifest]:
    """Add a base image and an incremental for each further argument."""
    points: list[Manifest] = []
    for grains in changes:
        points.append(add_point(store, grains, points[-1] if points else None, capacity_bytes))
    return points


def import_raw(store: Store, images: Sequence[Path], parent: Manifest | None = None) -> Manifest:
    return import_images(store, MACHINE_NAME, images, parent.point_id if parent else None)


def disk_path(store: Store, point: Manifest, number: int = 0) -> Path:
    return store.get_folder(point.machine_id, point.point_id) / f"disk{number}.vmdk"


def flip_byte(path: Path, offset_bytes: int) -> None:
    """Flip one bit of the file, wherever the file's rights stand."""
    fd = os.open(path, os.O_RDWR)
    try:
        byte = os.pread(fd, 1, offset_bytes)[0]
        os.pwrite(fd, bytes([byte ^ 0x10]), offset_bytes)
    finally:
        os.close(fd)


def qemu_says_same(vmdk: Path, raw: Path) -> bool:
    """Let qemu-img judge whether a VMDK, with its parents, holds what the raw image holds."""
    result = subprocess.run(
        ["qemu-img", "compare", "-f", "vmdk", "-F", "raw", vmdk, raw],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode in (0, 1), result.stderr
    return result.returncode == 0


def libvmdk_says_same(vmdk: Path, raw: Path) -> bool:
    """Let libvmdk, stricter about the descriptor, judge whether a complete VMDK holds the same."""
    handle = pyvmdk.handle()
    handle.open(str(vmdk))
    handle.open_extent_data_files()
    try:
        size_bytes = handle.get_media_size()
        return raw.stat().st_size == size_bytes and all(
            handle.read_buffer_at_offset(min(MIB, size_bytes - at), at)
            == _read_at(raw, at, min(MIB, size_bytes - at))
            for at in range(0, size_bytes, MIB)
        )
    finally:
        handle.close()


def _read_at(path: Path, at: int, length_bytes: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(length_bytes)


def judges_say_same(vmdk: Path, raw: Path) -> bool:
    """Let every judge of complete VMDKs say whether it holds what the raw image holds."""
    return qemu_says_same(vmdk, raw) and libvmdk_says_same(vmdk, raw)


def tree_state(root: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content: the world as it was."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "lock"
    }
