"""Turn a readable disk into a VMDK stream: read, digest, compare, deflate, in bounded memory.

The agent uses it on the frozen view of a device, `recovery_store import` on a raw image. A few
threads read, digest and deflate blocks of the disk, which are written in order. Holes that the file
system reports are not read.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from blake3 import blake3

from ..errors import SourceUnreadable
from .deflate import deflate
from .layout import GRAIN_BYTES, grain_count
from .writer import StreamWriter

DIGEST_BYTES = 16
ZERO_DIGEST = bytes(DIGEST_BYTES)
_ZERO_GRAIN = bytes(GRAIN_BYTES)
_BLOCK_GRAINS = 16
# Parent digests are requested in slices, since each request may cross the network.
_SLICE_GRAINS = 8192
_BLOCKS_IN_FLIGHT = 8

Read = Callable[[int, int], bytes]


class MeasuredWrite:
    """Passes chunks on, and keeps their total length and BLAKE3 so far."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._hash = blake3()
        self.length_bytes = 0

    def __call__(self, data: bytes) -> None:
        self._hash.update(data)
        self.length_bytes += len(data)
        self._write(data)

    @property
    def digest_hex(self) -> str:
        return self._hash.hexdigest()


class _Block(NamedTuple):
    """A run of grains: their digests, and those that go into the stream."""

    first_grain: int
    digests: bytes
    grains: list[tuple[int, bytes | None]]  # None: became zero


def grain_digest(grain: bytes | memoryview) -> bytes:
    """Return the digest that the table stores for a whole grain; all zeros for a zero grain."""
    if grain == _ZERO_GRAIN:
        return ZERO_DIGEST
    return blake3(grain).digest(length=DIGEST_BYTES)


def stream_disk(
    fd: int,
    capacity_bytes: int,
    writer: StreamWriter,
    put_digests: Callable[[int, bytes], object],
    parent_digests: Callable[[int, int], bytes] | None = None,
    progress: Callable[[int, int], object] | None = None,
    threads: int = 2,
    read: Read | None = None,
    only: Iterable[tuple[int, int]] | None = None,
) -> None:
    """Stream the whole disk, or with `parent_digests` only what differs from the parent.

    Does not finish the writer; the caller ends the stream. All callbacks run in the calling thread,
    except `read`.

    fd: seekable file or device, open for reading; not closed, its position may move.
    capacity_bytes: as given to `writer`; a file that ends earlier reads as zero from there.
    put_digests(first_grain, digests): called in ascending order for every run of grains with a
        changed one; digests not put are the parent's, or zero in a base image.
    parent_digests(first_grain, count): returns 16 bytes for each grain, zero past the parent's end.
    progress(done_bytes, total_bytes): called between blocks; may raise to stop.
    read(offset_bytes, count_bytes): used instead of `read_whole` on `fd`, in other threads.
    only: (first grain, count) of everything that may differ from the parent; nothing else is read
        or requested. Needs `parent_digests`.

    Raises:
        SourceUnreadable: the disk cannot be read; the text names the position.
        VmdkLimit: the stream cannot hold the disk.
    """
    if only is not None and parent_digests is None:
        raise ValueError("only needs parent_digests")
    known = None if parent_digests is None else _ParentDigests(parent_digests, capacity_bytes)
    read_bytes = partial(read_whole, fd) if read is None else read
    pending: deque[Future[_Block]] = deque()
    cancelled = threading.Event()

    def read_block(first: int, count: int, parent: bytes | None) -> _Block:
        if cancelled.is_set():
            return _Block(first, b"", [])
        return _image_block(read_bytes, capacity_bytes, first, count, parent)

    def take_oldest() -> None:
        block = pending.popleft().result()
        for index, compressed in block.grains:
            if compressed is None:
                writer.zero_grain(index)
            else:
                writer.grain(index, compressed)
        if block.grains:
            put_digests(block.first_grain, block.digests)
        if progress is not None:
            end_grain = block.first_grain + len(block.digests) // DIGEST_BYTES
            progress(min(end_grain * GRAIN_BYTES, capacity_bytes), capacity_bytes)

    with ThreadPoolExecutor(threads, thread_name_prefix="imaging") as pool:
        try:
            runs = data_runs(fd, capacity_bytes) if only is None else _only(only, capacity_bytes)
            for first, count, is_data in runs:
                if is_data:
                    parent = known.get(first, count) if known else None
                    pending.append(pool.submit(read_block, first, count, parent))
                elif known is not None:
                    pending.append(_done(_hole(first, known.get(first, count))))
                while len(pending) >= _BLOCKS_IN_FLIGHT:
                    take_oldest()
            while pending:
                take_oldest()
        finally:
            cancelled.set()
    if progress is not None:
        progress(capacity_bytes, capacity_bytes)


def _done(block: _Block) -> Future[_Block]:
    future: Future[_Block] = Future()
    future.set_result(block)
    return future


class _ParentDigests:
    """Requests the parent's digests in ascending slices, and returns parts of them."""

    def __init__(self, ask: Callable[[int, int], bytes], capacity_bytes: int) -> None:
        self._ask = ask
        self._total_grains = grain_count(capacity_bytes)
        self._first = 0
        self._slice = b""

    def get(self, first: int, count: int) -> bytes:
        parts = []
        while count:
            self._hold(first)
            start = (first - self._first) * DIGEST_BYTES
            part = self._slice[start : start + count * DIGEST_BYTES]
            parts.append(part)
            first += len(part) // DIGEST_BYTES
            count -= len(part) // DIGEST_BYTES
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _hold(self, grain: int) -> None:
        first = grain - grain % _SLICE_GRAINS
        if self._slice and first == self._first:
            return
        count = min(_SLICE_GRAINS, self._total_grains - first)
        digests = self._ask(first, count)
        if len(digests) != count * DIGEST_BYTES:
            raise ValueError(
                f"{count} parent digests were requested, but {len(digests)} bytes arrived"
            )
        self._first, self._slice = first, bytes(digests)


def _image_block(
    read: Read, capacity_bytes: int, first: int, count: int, parent: bytes | None
) -> _Block:
    start = first * GRAIN_BYTES
    wanted = min(count * GRAIN_BYTES, capacity_bytes - start)
    data = read(start, wanted).ljust(count * GRAIN_BYTES, b"\0")
    view = memoryview(data)
    digests = []
    grains: list[tuple[int, bytes | None]] = []
    for number in range(count):
        start = number * GRAIN_BYTES
        grain = view[start : start + GRAIN_BYTES]
        # Comparing bytes is hundreds of times faster than comparing a view's elements.
        is_zero = data.startswith(_ZERO_GRAIN, start)
        digest = ZERO_DIGEST if is_zero else blake3(grain).digest(length=DIGEST_BYTES)
        digests.append(digest)
        before = (
            ZERO_DIGEST
            if parent is None
            else parent[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
        )
        if digest != before:
            grains.append((first + number, None if is_zero else deflate(grain)))
    return _Block(first, b"".join(digests), grains)


def _hole(first: int, parent: bytes) -> _Block:
    """Return a hole's block: the grains that the parent had there and that are zero now."""
    if parent.count(0) == len(parent):  # usually it was a hole before
        return _Block(first, parent, [])
    grains: list[tuple[int, bytes | None]] = [
        (first + number, None)
        for number in range(len(parent) // DIGEST_BYTES)
        if parent[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES] != ZERO_DIGEST
    ]
    return _Block(first, bytes(len(parent)), grains)


def read_whole(fd: int, offset_bytes: int, count_bytes: int) -> bytes:
    """Read that many bytes, with zeros past the end of the file."""
    parts = []
    missing = count_bytes
    while missing:
        try:
            part = os.pread(fd, missing, offset_bytes)
        except OSError as error:
            raise SourceUnreadable(
                f"The disk cannot be read at byte {offset_bytes}: {error.strerror}"
            ) from error
        if not part:
            parts.append(bytes(missing))
            break
        parts.append(part)
        offset_bytes += len(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def data_runs(fd: int, capacity_bytes: int) -> Iterator[tuple[int, int, bool]]:
    """Yield (first grain, count, is data) over the whole disk, ascending and without gaps.

    Data comes in blocks at most. A hole inside a block counts as data, or a fragmented disk would
    be read in tiny pieces. Holes come in slices of parent digests.
    """
    total_grains = grain_count(capacity_bytes)
    done = 0
    for first, last in _data_spans(fd, total_grains):
        yield from _steps(done, first, _SLICE_GRAINS, False)
        yield from _steps(first, last, _BLOCK_GRAINS, True)
        done = last
    yield from _steps(done, total_grains, _SLICE_GRAINS, False)


def join_runs(runs: Iterable[tuple[int, int]], total_grains: int) -> list[tuple[int, int]]:
    """Return the runs of grains ascending, joined where they touch, and cut at the disk's end."""
    joined: list[tuple[int, int]] = []
    for first, count in sorted(runs):
        start, end = max(0, first), min(first + count, total_grains)
        if joined and start <= sum(joined[-1]):
            last_first, last_count = joined[-1]
            joined[-1] = (last_first, max(last_count, end - last_first))
        elif start < end:
            joined.append((start, end - start))
    return joined


def _only(runs: Iterable[tuple[int, int]], capacity_bytes: int) -> Iterator[tuple[int, int, bool]]:
    for first, count in join_runs(runs, grain_count(capacity_bytes)):
        yield from _steps(first, first + count, _BLOCK_GRAINS, True)


def _data_spans(fd: int, total_grains: int) -> Iterator[tuple[int, int]]:
    """Yield (first grain, grain after the last) of data, joining what is in one block."""
    first = last = 0
    for start, end in data_extents(fd):
        next_first = max(last, start // GRAIN_BYTES)
        next_last = min(total_grains, -(-end // GRAIN_BYTES))
        if next_last <= next_first:
            continue
        if last and next_first // _BLOCK_GRAINS == (last - 1) // _BLOCK_GRAINS:
            last = next_last
            continue
        if last:
            yield first, last
        first, last = next_first, next_last
    if last:
        yield first, last


def _steps(first: int, last: int, step: int, is_data: bool) -> Iterator[tuple[int, int, bool]]:
    while first < last:
        count = min(last - first, step - first % step)
        yield first, count, is_data
        first += count


def data_extents(fd: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) in bytes of what may hold data; without holes, that is one extent."""
    length_bytes = os.lseek(fd, 0, os.SEEK_END)
    position = 0
    while position < length_bytes:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            # Block devices and some file systems do not report holes.
            start, end = position, length_bytes
        yield start, end
        position = end
