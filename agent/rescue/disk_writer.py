"""Write a disk's grains with a few threads: inflate, write, flush.

Runs arrive in ascending order, so one number is the progress of a disk: everything before that
grain is on it. The number moves when the disk has been flushed, and never past a run that failed.
Memory use is constant: the number of runs in progress is limited, and the disk is flushed often, so
the last flush is short and a small machine's memory does not fill up.

The head of the disk, with its boot sector and partition table, is kept for `write_head`: a machine
that loses power during the restore must not boot from a half-written disk.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.errors import RestoreFailed
from agent.protocol import GRAIN_BYTES, MAX_RUN_GRAINS, grain_count
from recovery_store.errors import VmdkError
from recovery_store.vmdk.deflate import inflate

FLUSH_BYTES = 32 * 1024 * 1024
FLUSH_SECONDS = 1.0
REPORT_SECONDS = 2.0
_THREADS = 3  # while one waits for its write, the other two inflate
_RUNS_UNDER_WAY = 8
_UNFLUSHED_LIMIT_BYTES = 4 * FLUSH_BYTES
_ZERO_SLICE_GRAINS = 256  # 16 MiB between reports, even if the range has to be read
_WAIT_SECONDS = 0.2
_ALIGN_BYTES = 4096
HEAD_BYTES = 4096  # also the boot sector of a disk with 4-KiB sectors
_ZEROS = bytes(1024 * 1024)
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE

_Result = TypeVar("_Result")
_libc = ctypes.CDLL(None, use_errno=True)


class DiskWriter:
    """Writes one disk. Use it as a context manager; leaving it keeps as much progress as possible.

    next_grain: everything before it is already on the disk.
    submitted_grain: the first grain at which the next run may start.
    fills_gaps: grains that are in no run become zero.
    head: what `write_head` has to write in the end. A run with the first grain replaces the given
        head, so it is final once `next_grain` is not zero.
    report(next_grain): called in the calling thread when more is on the disk, and every few seconds
        in any case; an exception from it ends the work.
    """

    def __init__(
        self,
        path: Path,
        capacity_bytes: int,
        next_grain: int,
        fills_gaps: bool,
        report: Callable[[int], object],
        head: bytes = b"",
    ) -> None:
        self._path = path
        self._capacity_bytes = capacity_bytes
        self._total_grains = grain_count(capacity_bytes)
        self._fills_gaps = fills_gaps
        self._report = report
        self._descriptor = _open(path)
        self._direct_descriptor = _open_direct(path, self._descriptor)
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="restore")
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._pending: deque[tuple[int, Future[int]]] = deque()
        self._flush: tuple[int, int, Future[None]] | None = None
        self.submitted_grain = next_grain
        self._written_grain = next_grain
        self._unflushed_bytes = 0
        self._flushed_at = self._reported_at = time.monotonic()
        self._is_broken = False
        self.next_grain = next_grain
        head_bytes = min(HEAD_BYTES, capacity_bytes)
        self.head = head[:head_bytes].ljust(head_bytes, b"\0")

    def __enter__(self) -> DiskWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Finish and flush what is in progress, and advance `next_grain` as far as possible."""
        try:
            self._settle()
        finally:
            self._pool.shutdown()
            self._flusher.shutdown()
            os.close(self._direct_descriptor)
            os.close(self._descriptor)

    def write_run(self, first_grain: int, compressed: Sequence[memoryview]) -> None:
        """Inflate grains and write them before `finish` returns.

        Raises:
            RestoreFailed: an earlier run does not inflate, or the disk cannot be written.
        """
        self._fill_gap(first_grain)
        work = partial(self._inflate_and_write, first_grain, compressed)
        self._submit(first_grain + len(compressed), work)

    def zero_run(self, first_grain: int, grains: int) -> None:
        """Make grains zero. Raises as `write_run`."""
        self._fill_gap(first_grain)
        self._zero(first_grain, first_grain + grains)

    def zero_bytes(self, offset_bytes: int, count_bytes: int) -> None:
        """Zero any part of the disk and flush it. Raises as `write_run`."""
        self._checked(partial(make_zero, self._descriptor, offset_bytes, count_bytes))
        self._checked(partial(os.fdatasync, self._descriptor))

    def poll(self) -> None:
        """Record progress while no runs arrive.

        Raises as `write_run`.
        """
        if self._pending:
            self._take_oldest()
        else:
            self._poll_flush()

    def finish(self) -> None:
        """Wait until everything but the head is on the disk and flushed. Raises as `write_run`."""
        self._fill_gap(self._total_grains)
        while self._pending:
            self._take_oldest()
        while self._flush is not None:
            self._poll_flush(_WAIT_SECONDS)
        self._start_flush(self._total_grains)
        while self._flush is not None:
            self._poll_flush(_WAIT_SECONDS)

    def _fill_gap(self, first_grain: int) -> None:
        if self._fills_gaps:
            self._zero(self.submitted_grain, first_grain)

    def _zero(self, first_grain: int, end_grain: int) -> None:
        for first in range(first_grain, end_grain, _ZERO_SLICE_GRAINS):
            end = min(end_grain, first + _ZERO_SLICE_GRAINS)
            self._submit(end, partial(self._zero_grains, first, end))

    def _submit(self, end_grain: int, work: Callable[[], int]) -> None:
        while len(self._pending) >= _RUNS_UNDER_WAY:
            self._take_oldest()
        while self._unflushed_bytes > _UNFLUSHED_LIMIT_BYTES and self._flush is not None:
            self._poll_flush(_WAIT_SECONDS)
        self._pending.append((end_grain, self._pool.submit(work)))
        self.submitted_grain = end_grain
        self._poll_flush()

    def _take_oldest(self) -> None:
        end_grain, future = self._pending[0]
        wait([future], timeout=_WAIT_SECONDS)
        if future.done():
            self._unflushed_bytes += self._checked(future.result)
            self._pending.popleft()
            self._written_grain = end_grain
        self._poll_flush()

    def _poll_flush(self, wait_seconds: float = 0.0) -> None:
        """Record a finished flush, or start one that is due, and report."""
        if self._flush is not None:
            grain, flushed_bytes, future = self._flush
            wait([future], timeout=wait_seconds)
            if future.done():
                self._checked(future.result)
                self._flush = None
                self._flushed_at = time.monotonic()
                self._unflushed_bytes -= flushed_bytes
                self.next_grain = grain
                self._tell()
        elif self._written_grain > self.next_grain and (
            self._unflushed_bytes >= FLUSH_BYTES
            or time.monotonic() - self._flushed_at >= FLUSH_SECONDS
        ):
            self._start_flush(self._written_grain)
        if time.monotonic() - self._reported_at >= REPORT_SECONDS:
            self._tell()

    def _start_flush(self, grain: int) -> None:
        future = self._flusher.submit(os.fdatasync, self._descriptor)
        self._flush = (grain, self._unflushed_bytes, future)

    def _tell(self) -> None:
        self._reported_at = time.monotonic()
        self._report(self.next_grain)

    def _settle(self) -> None:
        """Let everything finish, and count what was written before the first failure."""
        failed = False
        for end_grain, future in self._pending:
            failed = future.exception() is not None or failed
            if not failed:
                self._written_grain = end_grain
        if self._flush is not None and self._flush[2].exception() is not None:
            self._is_broken = True
        # After a failed flush, there is no telling what has reached the disk.
        if not self._is_broken and self._written_grain > self.next_grain:
            try:
                os.fdatasync(self._descriptor)
            except OSError:
                return
            self.next_grain = self._written_grain

    def _inflate_and_write(self, first_grain: int, compressed: Sequence[memoryview]) -> int:
        buffer = self._buffer()
        for number, grain in enumerate(compressed):
            position = number * GRAIN_BYTES
            buffer[position : position + GRAIN_BYTES] = inflate(grain)
        if first_grain == 0:
            self.head = buffer[: len(self.head)]
            buffer[: len(self.head)] = bytes(len(self.head))
        offset_bytes = first_grain * GRAIN_BYTES
        wanted_bytes = min(len(compressed) * GRAIN_BYTES, self._capacity_bytes - offset_bytes)
        direct_bytes = wanted_bytes - wanted_bytes % _ALIGN_BYTES
        with memoryview(buffer) as data:
            with data[:direct_bytes] as part:
                _write_all(self._direct_descriptor, part, offset_bytes)
            with data[direct_bytes:wanted_bytes] as part:
                _write_all(self._descriptor, part, offset_bytes + direct_bytes)
        return wanted_bytes

    def _buffer(self) -> mmap.mmap:
        """Return this thread's buffer, aligned for direct writes."""
        buffer: mmap.mmap | None = getattr(self._own, "buffer", None)
        if buffer is None:
            buffer = self._own.buffer = mmap.mmap(-1, MAX_RUN_GRAINS * GRAIN_BYTES)
        return buffer

    def _zero_grains(self, first_grain: int, end_grain: int) -> int:
        if first_grain == 0:
            self.head = bytes(len(self.head))
        start_bytes = first_grain * GRAIN_BYTES
        end_bytes = min(end_grain * GRAIN_BYTES, self._capacity_bytes)
        return make_zero(self._descriptor, start_bytes, end_bytes - start_bytes)

    def _checked(self, act: Callable[[], _Result]) -> _Result:
        try:
            return act()
        except OSError as error:
            self._is_broken = True
            raise RestoreFailed(f"Writing to {self._path}: {error.strerror}") from error
        except VmdkError as error:
            raise RestoreFailed(f"Restoring {self._path}: {error}") from error


def _open(path: Path) -> int:
    try:
        # O_EXCL fails for a block device that is mounted or in use.
        is_device = stat.S_ISBLK(path.stat().st_mode)
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if is_device else 0))
    except OSError as error:
        raise RestoreFailed(f"Opening {path} for writing: {error.strerror}") from error


def write_head(path: Path, head: bytes) -> None:
    """Write the head that a `DiskWriter` kept, and flush it.

    Raises:
        RestoreFailed: the disk cannot be written.
    """
    descriptor = _open(path)
    try:
        _write_all(descriptor, memoryview(head), 0)
        os.fdatasync(descriptor)
    except OSError as error:
        raise RestoreFailed(f"Writing the head of {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _open_direct(path: Path, descriptor: int) -> int:
    """Open a disk for writes past the page cache, which is faster and keeps memory free."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:  # not supported by every file system
        return os.dup(descriptor)


def _write_all(descriptor: int, data: memoryview, offset_bytes: int) -> None:
    while data:
        written_bytes = os.pwrite(descriptor, data, offset_bytes)
        offset_bytes += written_bytes
        data = data[written_bytes:]


def make_zero(descriptor: int, offset_bytes: int, count_bytes: int, can_punch: bool = True) -> int:
    """Make a range read as zero; return how many bytes were written for that.

    If the device or file system can zero a range itself, it does. Otherwise the range is read, and
    only what is not zero is overwritten: reading a blank disk is faster than writing it.
    """
    if can_punch and _punch(descriptor, offset_bytes, count_bytes):
        return 0
    written_bytes = 0
    for position in range(offset_bytes, offset_bytes + count_bytes, len(_ZEROS)):
        piece_bytes = min(len(_ZEROS), offset_bytes + count_bytes - position)
        data = os.pread(descriptor, piece_bytes, position)
        if data != _ZEROS[:piece_bytes]:
            _write_all(descriptor, memoryview(_ZEROS)[:piece_bytes], position)
            written_bytes += piece_bytes
    return written_bytes


def _punch(descriptor: int, offset_bytes: int, count_bytes: int) -> bool:
    """Have the kernel zero a range without writing; False if that is not supported."""
    if count_bytes <= 0:
        return True
    position, length = ctypes.c_int64(offset_bytes), ctypes.c_int64(count_bytes)
    if _libc.fallocate64(descriptor, _PUNCH_HOLE, position, length) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number))
