"""Read a device past the page cache (O_DIRECT).

The machine's applications keep their pages in the cache, and a view, which is read only once, is
read several times as fast. The kernel needs aligned memory for this, so each thread has a buffer.
"""

from __future__ import annotations

import mmap
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import SnapshotFailed
from recovery_store.errors import SourceUnreadable

_ALIGN_BYTES = 4096


class DirectReader:
    """Reads a device that was opened with O_DIRECT; safe for several threads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._own = threading.local()

    def read(self, offset_bytes: int, count_bytes: int) -> bytes:
        """Return that many bytes; bytes past the end of the device are zero.

        Raises:
            SourceUnreadable: the device cannot be read at that offset.
        """
        lead_bytes = offset_bytes % _ALIGN_BYTES
        wanted_bytes = lead_bytes + count_bytes
        whole_bytes = -(-wanted_bytes // _ALIGN_BYTES) * _ALIGN_BYTES
        buffer = self._buffer(whole_bytes)
        done_bytes = 0
        while done_bytes < wanted_bytes:
            position = offset_bytes - lead_bytes + done_bytes
            with memoryview(buffer)[done_bytes:whole_bytes] as room:
                try:
                    part_bytes = os.preadv(self._descriptor, [room], position)
                except OSError as error:
                    raise SourceUnreadable(
                        f"The disk cannot be read at byte {position}: {error.strerror}"
                    ) from error
            done_bytes += part_bytes
            if part_bytes == 0 or part_bytes % _ALIGN_BYTES:  # the end of the device
                break
        data = buffer[lead_bytes : min(done_bytes, wanted_bytes)]
        return data.ljust(count_bytes, b"\0")

    def _buffer(self, length_bytes: int) -> mmap.mmap:
        buffer: mmap.mmap | None = getattr(self._own, "buffer", None)
        if buffer is None or len(buffer) < length_bytes:
            buffer = self._own.buffer = mmap.mmap(-1, length_bytes)
        return buffer


@contextmanager
def open_source(path: Path) -> Iterator[tuple[int, Callable[[int, int], bytes] | None]]:
    """Open a view's path, and yield the descriptor and the function that reads it.

    The function is None for a file. Plain reading suits files better: it can skip holes, and files
    belong in the cache.

    Raises:
        SnapshotFailed: the path cannot be opened.
    """
    try:
        is_device = stat.S_ISBLK(path.stat().st_mode)
        flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if is_device else 0)
        descriptor = os.open(path, flags)
    except OSError as error:
        raise SnapshotFailed(f"Opening {path}: {error.strerror}") from error
    try:
        yield descriptor, DirectReader(descriptor).read if is_device else None
    finally:
        os.close(descriptor)
