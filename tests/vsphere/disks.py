"""Small streams to send: real ones, made by the store's own writer."""

import random
from collections.abc import Iterator

from recovery_store.vmdk.deflate import deflate
from recovery_store.vmdk.writer import StreamWriter
from vsphere import DiskUpload, VmDisk

GRAIN_BYTES = 65536
MIB = 1 << 20


def make_stream(capacity_bytes: int = 64 * MIB, grains: int = 40, seed: int = 1) -> bytes:
    """Return a stream with `grains` grains that do not compress, spread over the disk."""
    parts: list[bytes] = []
    source = random.Random(seed)
    writer = StreamWriter(parts.append, capacity_bytes, cid=f"{seed:08x}")
    every = max(1, capacity_bytes // GRAIN_BYTES // max(1, grains))
    for number in range(min(grains, capacity_bytes // GRAIN_BYTES)):
        writer.grain(number * every, deflate(source.randbytes(GRAIN_BYTES)))
    writer.finish()
    return b"".join(parts)


def in_chunks(stream: bytes, chunk_bytes: int = 1 << 18) -> Iterator[bytes]:
    """Yield a stream piece by piece."""
    for start in range(0, len(stream), chunk_bytes):
        yield stream[start : start + chunk_bytes]


def upload_of(number: int, stream: bytes, length_bytes: int | None = None) -> DiskUpload:
    """Return a stream as a disk to send."""
    return DiskUpload(
        number, len(stream) if length_bytes is None else length_bytes, lambda: in_chunks(stream)
    )


def disk_of(number: int, capacity_bytes: int = 64 * MIB, **changes: object) -> VmDisk:
    """Return the disk that such a stream fills."""
    return VmDisk(number=number, capacity_bytes=capacity_bytes, **changes)  # type: ignore[arg-type]
