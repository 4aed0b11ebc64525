"""The `file` provider: serves raw image files from the configuration as disks.

For tests and benchmarks, and for machines whose disks are kept consistent by other means. Nothing
freezes a file: a program that writes to `DISK` has to wait while `DISK.frozen` exists, as it does
during a hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.configuration import ConfiguredDisk
from agent.errors import SnapshotFailed
from agent.providers import NOT_GUARANTEED, Disk, DiskView, View
from agent.providers.freeze import Watchdog
from agent.providers.hold import Hold
from agent.providers.watch import Watch

_SECTOR_BYTES = 512


class FileView:
    """The files themselves."""

    consistency = NOT_GUARANTEED

    def __init__(self, disks: list[DiskView]) -> None:
        self.disks = disks

    def check(self) -> None:
        """Do nothing: without a snapshot, nothing can be lost."""


class FrozenMarks:
    """Marks next to the disk images that tell other writers to wait."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._marks = [path.with_name(path.name + ".frozen") for path in paths]

    def freeze(self) -> None:
        """Set the marks."""
        for mark in self._marks:
            mark.touch()

    def close(self) -> None:
        """Remove the marks; harmless if repeated."""
        for mark in self._marks:
            mark.unlink(missing_ok=True)


class FileProvider:
    """Serves the configured files in order; the first is the boot disk."""

    name = "file"
    can_watch = False

    def __init__(self, files: Sequence[ConfiguredDisk]) -> None:
        self._files = files

    def disks(self) -> list[Disk]:
        """Return the configured files as disks.

        Raises:
            SnapshotFailed: a file is missing.
        """
        return [self._disk(number, file) for number, file in enumerate(self._files)]

    @contextmanager
    def open_view(
        self, hold: Hold | None = None, watch: Watch | None = None, since: Watch | None = None
    ) -> Iterator[View]:
        """Serve the files themselves; later writes to them are not recorded.

        Raises:
            SnapshotFailed: a file is missing.
        """
        if hold is not None:
            _freeze([file.path for file in self._files], hold)
        yield FileView(
            [
                DiskView(disk, file.path, disk.capacity_bytes)
                for disk, file in zip(self.disks(), self._files)
            ]
        )

    def _disk(self, number: int, file: ConfiguredDisk) -> Disk:
        try:
            with file.path.open("rb") as image:
                length_bytes = os.lseek(image.fileno(), 0, os.SEEK_END)
        except OSError as error:
            raise SnapshotFailed(f"Opening the disk image {file.path}: {error.strerror}") from error
        return Disk(
            number=number,
            key=file.key,
            device=str(file.path),
            capacity_bytes=-(-length_bytes // _SECTOR_BYTES) * _SECTOR_BYTES,
            controller="",
            is_boot=number == 0,
        )


def _freeze(paths: Sequence[Path], hold: Hold) -> None:
    marks = FrozenMarks(paths)
    watchdog = Watchdog(hold.limit_seconds, marks.close)
    marks.freeze()
    hold.keep(marks, watchdog)
