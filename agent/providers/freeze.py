"""Freeze file systems for a limited time, with a watchdog that thaws even if the agent dies.

While file systems are frozen and disks suspended, this process must touch neither: a page that is
not in memory would have to come from a disk that does not answer. So all memory is locked and all
files are opened beforehand. The watchdog is a forked child that shares nothing with its parent that
could block. It resumes the disks and thaws if it hears nothing in time, or if the parent is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import select
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from agent.errors import SnapshotFailed

log = logging.getLogger(__name__)

_FIFREEZE = 0xC0045877
_FITHAW = 0xC0045878
_MCL_CURRENT = 1
_MCL_FUTURE = 2
_READY = b"r"
_DONE = b"d"
_EXTEND = b"e"
_EXTENDED = b"x"
_FIRED = 1
_WATCHDOG_READY_SECONDS = 30
_WATCHDOG_ANSWER_SECONDS = 10

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Mount:
    """A mounted, writable file system on a block device."""

    device_numbers: str
    path: str
    kind: str


def find_mounts(mountinfo: str) -> list[Mount]:
    """Return the writable file systems on block devices, each once, last mounted first.

    mountinfo: the text of /proc/self/mountinfo.
    """
    mounts: dict[str, Mount] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        if len(fields) < 6 or len(rest) < 3:
            continue
        numbers, kind, source, super_options = fields[2], rest[0], rest[1], rest[2]
        if not source.startswith("/dev/") or "ro" in super_options.split(","):
            continue
        path = fields[4].encode().decode("unicode_escape")
        mounts[numbers] = Mount(numbers, path, kind)
    return list(reversed(mounts.values()))


class OpenMounts:
    """The file systems to freeze, opened beforehand because opening would read a frozen disk."""

    def __init__(self, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
        self._mountinfo = mountinfo
        self._descriptors: list[tuple[int, Mount]] = []
        self.not_frozen: list[Mount] = []
        self._frozen: list[int] = []

    def open(self) -> None:
        """Open all writable file systems and write out their dirty pages to shorten the freeze."""
        for mount in find_mounts(self._mountinfo.read_text()):
            try:
                descriptor = os.open(mount.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                log.warning("mount left out path=%s reason=%s", mount.path, error.strerror)
                self.not_frozen.append(mount)
                continue
            self._descriptors.append((descriptor, mount))
        os.sync()

    def thaw_all(self) -> None:
        """Thaw every open file system; for the watchdog, which does not know which are frozen."""
        for descriptor, _ in reversed(self._descriptors):
            with contextlib.suppress(OSError):
                fcntl.ioctl(descriptor, _FITHAW, 0)

    def freeze(self) -> None:
        """Freeze all file systems; record those that do not support it.

        Raises:
            SnapshotFailed: a file system could not be frozen; all are thawed again.
        """
        for descriptor, mount in self._descriptors:
            try:
                fcntl.ioctl(descriptor, _FIFREEZE, 0)
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:  # as FAT answers
                    self.not_frozen.append(mount)
                    continue
                self.thaw()
                raise SnapshotFailed(
                    f"Freezing the file system at {mount.path}: {error.strerror}"
                ) from error
            self._frozen.append(descriptor)

    def thaw(self) -> None:
        """Thaw what is frozen, in reverse order; harmless if repeated."""
        while self._frozen:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._frozen.pop(), _FITHAW, 0)

    def close(self) -> None:
        """Close the file systems."""
        self.thaw()
        while self._descriptors:
            os.close(self._descriptors.pop()[0])


class Watchdog:
    """Runs `rescue` in its own process unless `stand_down` is called within the limit.

    Not thread-safe.
    """

    def __init__(self, limit_seconds: float, rescue: Callable[[], None]) -> None:
        self._answer_end, child_answer = os.pipe()
        child_end, self._told_end = os.pipe()
        self._limit_seconds = limit_seconds
        self._status: int | None = None
        self._process_id = os.fork()
        if self._process_id == 0:
            os.close(self._answer_end)
            os.close(self._told_end)
            _watch(child_end, child_answer, limit_seconds, rescue)
        os.close(child_answer)
        os.close(child_end)
        if not self._is_answered(_READY, _WATCHDOG_READY_SECONDS):
            self._kill()
            raise SnapshotFailed("The watchdog for the freeze did not start; nothing was frozen")

    def extend(self) -> bool:
        """Restart the time limit; False if the watchdog acted first."""
        try:
            os.write(self._told_end, _EXTEND)
        except BrokenPipeError:
            return False
        return self._is_answered(_EXTENDED, _WATCHDOG_ANSWER_SECONDS)

    def is_armed(self) -> bool:
        """Tell whether the watchdog has not acted."""
        if self._status is None:
            process_id, status = os.waitpid(self._process_id, os.WNOHANG)
            if process_id:
                self._status = status
        return self._status is None

    def stand_down(self) -> None:
        """End the watchdog.

        Raises:
            SnapshotFailed: it had to act, so the disks were not captured at one instant.
        """
        with contextlib.suppress(BrokenPipeError):
            os.write(self._told_end, _DONE)
        self._close()
        if self._status is None:
            _, self._status = os.waitpid(self._process_id, 0)
        if self._status != 0:
            raise SnapshotFailed(
                f"File systems were frozen for more than {self._limit_seconds:g} seconds, so the "
                "watchdog thawed them and the view was abandoned. Try again when the machine is "
                "less busy."
            )

    def _is_answered(self, expected: bytes, limit_seconds: float) -> bool:
        ready, _, _ = select.select([self._answer_end], [], [], limit_seconds)
        return bool(ready) and os.read(self._answer_end, 1) == expected

    def _kill(self) -> None:
        self._close()
        os.kill(self._process_id, signal.SIGKILL)
        os.waitpid(self._process_id, 0)

    def _close(self) -> None:
        os.close(self._told_end)
        os.close(self._answer_end)


def _watch(
    told_end: int, answer_end: int, limit_seconds: float, rescue: Callable[[], None]
) -> NoReturn:
    """Be the watchdog: the child's only thread, which never returns."""
    status = _FIRED
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _close_sockets()
        lock_all_memory()
        deadline = time.monotonic() + limit_seconds
        os.write(answer_end, _READY)
        while True:
            left_seconds = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([told_end], [], [], left_seconds)
            told = os.read(told_end, 1) if ready else b""
            if told == _DONE:
                status = 0
                break
            if told != _EXTEND or not _tell(answer_end, _EXTENDED):
                rescue()
                break
            deadline = time.monotonic() + limit_seconds
    finally:
        os._exit(status)


def _tell(answer_end: int, answer: bytes) -> bool:
    try:
        os.write(answer_end, answer)
    except OSError:  # the parent is gone
        return False
    return True


def _close_sockets() -> None:
    """Close the parent's connections, which the watchdog would otherwise keep open."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                os.close(int(name))


class _Memory:
    """The lock on this process's memory; a view and a hold may need it at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0

    def lock(self) -> None:
        with self._lock:
            lock_all_memory()
            self._holders += 1

    def unlock(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                _libc.munlockall()


_memory = _Memory()


def lock_memory() -> None:
    """Keep this process's memory loaded until `unlock_memory` has been called as many times.

    Raises:
        SnapshotFailed: the kernel refuses.
    """
    _memory.lock()


def unlock_memory() -> None:
    """Allow this process's memory to be paged out again, once no one needs it locked."""
    _memory.unlock()


def lock_all_memory() -> None:
    """Lock without counting; for the watchdog, which is forked from a process with threads."""
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE):
        reason = os.strerror(ctypes.get_errno())
        raise SnapshotFailed(f"Locking the agent's memory before the freeze: {reason}")


@contextlib.contextmanager
def locked_memory() -> Iterator[None]:
    """Keep this process in memory while the context lasts."""
    lock_memory()
    try:
        yield
    finally:
        unlock_memory()
