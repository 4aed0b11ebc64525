"""The `fsfreeze` provider: file systems stay frozen while all disks are read, for a limited time.

For machines that have not yet been restarted with the layer. Applications cannot write while a
point is taken. If reading takes longer than the limit, the watchdog thaws and the point fails.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.disks import FoundDisk, describe_disks, find_disks
from agent.errors import SnapshotFailed
from agent.providers import CRASH, FROZEN_WHILE_READ, Disk, DiskView, View
from agent.providers.freeze import Mount, OpenMounts, Watchdog
from agent.providers.hold import Hold, freeze_for
from agent.providers.watch import Watch

log = logging.getLogger(__name__)

_BLKFLSBUF = 0x1261


class FrozenView:
    """The disks themselves, while their file systems are frozen."""

    def __init__(self, disks: list[DiskView], not_frozen: Sequence[Mount]) -> None:
        self.disks = disks
        self.consistency = CRASH if not_frozen else FROZEN_WHILE_READ

    def check(self) -> None:
        """Do nothing: only at the end does the watchdog tell whether it had to thaw."""


class FsfreezeProvider:
    """Freezes the file systems, lets the disks be read, and thaws."""

    name = "fsfreeze"
    can_watch = False

    def __init__(
        self,
        limit_seconds: int,
        left_out: Sequence[str] = (),
        sys_root: Path = Path("/sys"),
        dev_root: Path = Path("/dev"),
        mountinfo: Path = Path("/proc/self/mountinfo"),
    ) -> None:
        self._limit_seconds = limit_seconds
        self._left_out = left_out
        self._sys_root = sys_root
        self._dev_root = dev_root
        self._mountinfo = mountinfo

    def disks(self) -> list[Disk]:
        """Return the machine's disks."""
        return describe_disks(self._find_disks(), self._sys_root)

    @contextlib.contextmanager
    def open_view(
        self, hold: Hold | None = None, watch: Watch | None = None, since: Watch | None = None
    ) -> Iterator[View]:
        """Freeze all file systems while the context lasts, up to the limit.

        hold: takes over the frozen file systems, with its own limit.
        watch: ignored, since this provider cannot record later writes.

        Raises:
            SnapshotFailed: a file system could not be frozen, or the limit has passed.
        """
        found = self._find_disks()
        views = [
            DiskView(disk, entry.device, disk.capacity_bytes)
            for entry, disk in zip(found, describe_disks(found, self._sys_root))
        ]
        mounts = OpenMounts(self._mountinfo)
        try:
            with _frozen(mounts, self._limit_seconds) if hold is None else _kept(mounts, hold):
                _forget_cached(found)
                yield FrozenView(views, mounts.not_frozen)
        finally:
            if hold is None or not hold.has_taken_over:
                mounts.close()

    def _find_disks(self) -> list[FoundDisk]:
        return find_disks(self._left_out, self._sys_root, self._dev_root)


@contextlib.contextmanager
def _frozen(mounts: OpenMounts, limit_seconds: int) -> Iterator[None]:
    mounts.open()
    watchdog = Watchdog(limit_seconds, mounts.thaw_all)
    try:
        mounts.freeze()
        try:
            yield
        finally:
            mounts.thaw()
    finally:
        watchdog.stand_down()


@contextlib.contextmanager
def _kept(mounts: OpenMounts, hold: Hold) -> Iterator[None]:
    freeze_for(hold, mounts)
    yield


def _forget_cached(found: Sequence[FoundDisk]) -> None:
    """Drop the kernel's cache of the whole disks, which file systems bypass when they write."""
    for disk in found:
        try:
            descriptor = os.open(disk.device, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SnapshotFailed(f"Opening {disk.device}: {error.strerror}") from error
        try:
            fcntl.ioctl(descriptor, _BLKFLSBUF, 0)
        except OSError as error:
            raise SnapshotFailed(f"Flushing {disk.device}: {error.strerror}") from error
        finally:
            os.close(descriptor)
