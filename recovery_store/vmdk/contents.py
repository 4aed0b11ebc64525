"""Inflate every grain of a stream and digest it: what a restore would read.

The digest of a file says that it is as it was written. Only its grains say that what was written
can be restored: memory or a processor may have damaged them before any digest was made.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from blake3 import blake3

from ..errors import VmdkDamaged
from .deflate import inflate
from .imaging import grain_digest
from .layout import (
    COMPRESSED_GRAIN_LIMIT_BYTES,
    GRAIN_MARKER,
    GRAIN_SECTORS,
    OVERHEAD_SECTORS,
    SECTOR_BYTES,
)

_BATCH_BYTES = 1 << 20
_BATCHES_IN_FLIGHT = 4

# A grain's number, and its compressed data.
_Grain = tuple[int, bytes]


def content_entry(grain: int, digest: bytes) -> bytes:
    """Return what the content digest of a file covers of one grain that the file holds."""
    return grain.to_bytes(8, "little") + digest


class ContentReader:
    """Inflates the grains of one stream in the threads of a pool, in bounded memory.

    Feed it every chunk of the file in order, then ask for the digest. It trusts the structure as
    far as `StreamValidator` has checked it, and reads nothing after an error.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._hash = blake3()
        self._rest = b""
        self._skip_bytes = OVERHEAD_SECTORS * SECTOR_BYTES
        self._batch: list[_Grain] = []
        self._batch_bytes = 0
        self._pending: deque[Future[bytes]] = deque()
        self._fault: VmdkDamaged | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the file."""
        if self._fault is not None:
            return
        try:
            self._feed(data)
        except VmdkDamaged as error:
            self.stop(error)

    def stop(self, fault: VmdkDamaged) -> None:
        """Read nothing more; `hexdigest` raises this fault."""
        self._fault = fault
        for future in self._pending:
            future.cancel()
        self._pending.clear()
        self._batch.clear()
        self._rest = b""

    def hexdigest(self) -> str:
        """Return the digest of the content, once the whole file was fed.

        Raises:
            VmdkDamaged: a grain does not inflate.
        """
        if self._fault is not None:
            raise self._fault
        self._submit()
        self._collect(0)
        return self._hash.hexdigest()

    def _feed(self, data: bytes) -> None:
        position = 0
        if self._rest:
            data, self._rest = self._rest + data, b""
        while position < len(data):
            if self._skip_bytes:
                step = min(self._skip_bytes, len(data) - position)
                self._skip_bytes -= step
                position += step
                continue
            end = self._take_unit(data, position)
            if not end:
                self._rest = data[position:]
                return
            position = end

    def _take_unit(self, data: bytes, position: int) -> int:
        """Take what the marker there announces; return where it ends, 0 if more is needed."""
        if len(data) - position < SECTOR_BYTES:
            return 0
        marker: tuple[int, int] = GRAIN_MARKER.unpack_from(data, position)
        value, size_bytes = marker
        if not size_bytes:
            self._skip_bytes = value * SECTOR_BYTES
            return position + SECTOR_BYTES
        if size_bytes > COMPRESSED_GRAIN_LIMIT_BYTES:
            raise VmdkDamaged(f"a grain of {size_bytes} bytes is longer than grains are")
        start = position + GRAIN_MARKER.size
        end = position - (-(GRAIN_MARKER.size + size_bytes) // SECTOR_BYTES) * SECTOR_BYTES
        if end > len(data):
            return 0
        self._batch.append((value // GRAIN_SECTORS, data[start : start + size_bytes]))
        self._batch_bytes += size_bytes
        if self._batch_bytes >= _BATCH_BYTES:
            self._submit()
        return end

    def _submit(self) -> None:
        if self._batch:
            self._pending.append(self._pool.submit(_digest_batch, self._batch))
            self._batch, self._batch_bytes = [], 0
        self._collect(_BATCHES_IN_FLIGHT)

    def _collect(self, leave: int) -> None:
        while len(self._pending) > leave:
            self._hash.update(self._pending.popleft().result())


def _digest_batch(batch: list[_Grain]) -> bytes:
    entries = []
    for grain, compressed in batch:
        try:
            entries.append(content_entry(grain, grain_digest(inflate(compressed))))
        except VmdkDamaged as error:
            raise VmdkDamaged(f"grain {grain}: {error}") from error
    return b"".join(entries)
