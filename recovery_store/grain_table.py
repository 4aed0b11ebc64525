"""The digests of all grains of a disk, which the next incremental compares with.

A cache, `disk0.grains`, kept only beside the newest point. It can be rebuilt from the chain, so it
is never synced; instead every slice is verified before it is trusted. A wrong table would silently
lose data, since a grain that seems unchanged is not stored.

Layout: one sector-aligned head, then the digest of each slice, then the slices. Holes are zeros.
"""

import os
import struct
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from blake3 import blake3

from .errors import StoreError
from .vmdk.disk import MergedDisk
from .vmdk.imaging import DIGEST_BYTES, grain_digest
from .vmdk.layout import grain_count
from .vmdk.reader import StreamFile

SLICE_GRAINS: Final = 8192
SLICE_BYTES: Final = SLICE_GRAINS * DIGEST_BYTES
_ALIGN_BYTES = 4096
_MAGIC = b"UNDGRAIN"
_VERSION = 1
# magic, version, disk number, point id, disk file's digest, grains
_HEAD = struct.Struct("<8sII36s32sQ")
# Behind it: BLAKE3 of the head and of all slice digests.
_SEAL_BYTES = 32
_HEAD_BYTES = _ALIGN_BYTES
_SLICE_DIGEST_BYTES = 32
_ZERO_SLICE_DIGEST = bytes(_SLICE_DIGEST_BYTES)
_REBUILD_BATCH_GRAINS = 32
_REBUILD_BATCHES_IN_FLIGHT = 8


class TableUnfit(StoreError):
    """The table is missing, stale or damaged, and must be rebuilt from the chain."""

    code = "STORE-TABLE-UNFIT"


class TableOwner(NamedTuple):
    """The disk and point that a table describes; a table with another owner is stale."""

    point_id: str
    disk_number: int
    disk_digest: str


def table_file_name(number: int) -> str:
    return f"disk{number}.grains"


class GrainTable:
    """A finished table, open for reading.

    Raises:
        TableUnfit: it cannot be trusted.
    """

    def __init__(self, path: Path, owner: TableOwner, capacity_bytes: int) -> None:
        self.grains = grain_count(capacity_bytes)
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise TableUnfit(f"{path} cannot be opened: {error.strerror}") from error
        try:
            self._slice_digests = self._read_head(owner)
        except BaseException:
            os.close(self.fd)
            raise
        self._held = (-1, b"")

    def get(self, first_grain: int, count: int) -> bytes:
        """Return that many digests; grains past the end of the disk count as zero.

        Raises:
            TableUnfit: the slice they are in is damaged.
        """
        parts = []
        while count:
            number, start = divmod(first_grain, SLICE_GRAINS)
            step = min(count, SLICE_GRAINS - start)
            data = self.slice(number)
            parts.append(data[start * DIGEST_BYTES : (start + step) * DIGEST_BYTES])
            first_grain += step
            count -= step
        return b"".join(parts)

    def prove(self) -> None:
        """Read all of it, so that damage does not show up in the middle of a stream.

        Raises:
            TableUnfit: a slice is damaged.
        """
        for number in range(_slice_count(self.grains)):
            self.slice(number)

    def slice(self, number: int) -> bytes:
        """Return a whole verified slice, padded with zeros; zeros past the end."""
        if self._held[0] == number:
            return self._held[1]
        if self.is_zero_slice(number):
            return bytes(SLICE_BYTES)
        offset = _slices_offset(self.grains) + number * SLICE_BYTES
        data = os.pread(self.fd, SLICE_BYTES, offset)
        if blake3(data).digest() != self.slice_digest(number):
            raise TableUnfit(f"{self.path}: slice {number} is damaged")
        self._held = (number, data)
        return data

    def slice_digest(self, number: int) -> bytes:
        start = number * _SLICE_DIGEST_BYTES
        return self._slice_digests[start : start + _SLICE_DIGEST_BYTES]

    def is_zero_slice(self, number: int) -> bool:
        return self.slice_digest(number) in (_ZERO_SLICE_DIGEST, b"")

    def close(self) -> None:
        os.close(self.fd)

    def _read_head(self, owner: TableOwner) -> bytes:
        data = os.pread(self.fd, _slices_offset(self.grains), 0)
        if len(data) < _slices_offset(self.grains):
            raise TableUnfit(f"{self.path} is cut")
        expected = _head(owner, self.grains)
        seal = data[_HEAD.size : _HEAD.size + _SEAL_BYTES]
        slice_digests = data[_HEAD_BYTES:][: _slice_count(self.grains) * _SLICE_DIGEST_BYTES]
        if data[: _HEAD.size] != expected or seal != _seal(expected, slice_digests):
            raise TableUnfit(f"{self.path} is stale or damaged")
        return slice_digests


class GrainTableBuilder:
    """A table being written: the parent's table with changes applied.

    Raises:
        TableUnfit: the parent's table turns out to be damaged while it is copied.
    """

    def __init__(self, path: Path, capacity_bytes: int, parent: GrainTable | None) -> None:
        self.path = path
        self.grains = grain_count(capacity_bytes)
        self.parent = parent
        self._changed = bytearray(_slice_count(self.grains))
        self._slice_digests = bytearray(_slice_count(self.grains) * _SLICE_DIGEST_BYTES)
        self._offset = _slices_offset(self.grains)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(self._fd, self._offset + len(self._changed) * SLICE_BYTES)
            if parent is not None:
                self._inherit(parent)
        except BaseException:
            os.close(self._fd)
            raise

    def put(self, first_grain: int, digests: bytes) -> None:
        """Set the digests from that grain onwards; they must be within the disk."""
        count, remainder = divmod(len(digests), DIGEST_BYTES)
        end = first_grain + count
        if remainder or not count or first_grain < 0 or end > self.grains:
            raise ValueError(
                f"{len(digests)} bytes of digests from grain {first_grain}: the disk has"
                f" {self.grains} grains"
            )
        _write_at(self._fd, digests, self._offset + first_grain * DIGEST_BYTES)
        for number in range(first_grain // SLICE_GRAINS, (end - 1) // SLICE_GRAINS + 1):
            self._changed[number] = 1

    def slices(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield (number, digests now, the parent's digests) of each changed slice."""
        for number in range(len(self._changed)):
            if self._changed[number]:
                before = self.parent.slice(number) if self.parent else bytes(SLICE_BYTES)
                yield number, self._slice(number), before

    def finish(self, owner: TableOwner) -> None:
        """Seal the table for its owner and close it."""
        for number, data, _ in self.slices():
            start = number * _SLICE_DIGEST_BYTES
            is_zero = data.count(0) == len(data)
            digest = _ZERO_SLICE_DIGEST if is_zero else blake3(data).digest()
            self._slice_digests[start : start + _SLICE_DIGEST_BYTES] = digest
        head = _head(owner, self.grains)
        _write_at(self._fd, bytes(self._slice_digests), _HEAD_BYTES)
        _write_at(self._fd, head + _seal(head, bytes(self._slice_digests)), 0)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _slice(self, number: int) -> bytes:
        return os.pread(self._fd, SLICE_BYTES, self._offset + number * SLICE_BYTES)

    def _inherit(self, parent: GrainTable) -> None:
        for number in range(min(len(self._changed), _slice_count(parent.grains))):
            if parent.is_zero_slice(number):
                continue
            _write_at(self._fd, parent.slice(number), self._offset + number * SLICE_BYTES)
            start = number * _SLICE_DIGEST_BYTES
            self._slice_digests[start : start + _SLICE_DIGEST_BYTES] = parent.slice_digest(number)


def rebuild_table(path: Path, disk: MergedDisk, owner: TableOwner) -> GrainTable:
    """Read a whole disk and write its table, which appears only when complete.

    Returned open, since a newer point may remove the file as soon as it appears.

    Raises:
        VmdkDamaged: the disk cannot be read.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    partial.unlink(missing_ok=True)
    builder = GrainTableBuilder(partial, disk.capacity_bytes, None)
    try:
        with ThreadPoolExecutor(2, thread_name_prefix="grain-table") as pool:
            pending: deque[Future[list[tuple[int, bytes]]]] = deque()
            for batch in _batches(disk):
                pending.append(pool.submit(_digest_batch, batch))
                if len(pending) >= _REBUILD_BATCHES_IN_FLIGHT:
                    _put_all(builder, pending.popleft().result())
            while pending:
                _put_all(builder, pending.popleft().result())
        builder.finish(owner)
        table = GrainTable(partial, owner, disk.capacity_bytes)
        partial.replace(path)
        table.path = path
        return table
    finally:
        builder.close()
        partial.unlink(missing_ok=True)


_Batch = list[tuple[int, StreamFile, bytes]]


def _batches(disk: MergedDisk) -> Iterator[_Batch]:
    batch: _Batch = []
    for item in disk.present_grains():
        batch.append(item)
        if len(batch) == _REBUILD_BATCH_GRAINS:
            yield batch
            batch = []
    if batch:
        yield batch


def _digest_batch(batch: _Batch) -> list[tuple[int, bytes]]:
    return [(index, grain_digest(file.inflate_grain(data, index))) for index, file, data in batch]


def _put_all(builder: GrainTableBuilder, digests: list[tuple[int, bytes]]) -> None:
    for index, digest in digests:
        builder.put(index, digest)


def _slice_count(grains: int) -> int:
    return -(-grains // SLICE_GRAINS)


def _slices_offset(grains: int) -> int:
    digests_bytes = _slice_count(grains) * _SLICE_DIGEST_BYTES
    return _HEAD_BYTES + -(-digests_bytes // _ALIGN_BYTES) * _ALIGN_BYTES


def _head(owner: TableOwner, grains: int) -> bytes:
    return _HEAD.pack(
        _MAGIC,
        _VERSION,
        owner.disk_number,
        owner.point_id.encode(),
        bytes.fromhex(owner.disk_digest),
        grains,
    )


def _seal(head: bytes, slice_digests: bytes) -> bytes:
    return blake3(head + slice_digests).digest()


def _write_at(fd: int, data: bytes, offset_bytes: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset_bytes)
        view = view[count:]
        offset_bytes += count


assert SLICE_BYTES % _ALIGN_BYTES == 0
