"""Snapshot providers: each holds a consistent view of whole disks still while it is read.

A provider is asked for its disks at any time, and for a view when a point is taken. Leaving the
view releases it, whatever happened in between.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agent.providers.hold import Hold

# How consistent a point is; these words are stored in recovery points and never change.
FILE_SYSTEM = "file_system"  # one instant over all disks, file systems frozen for it
CRASH = "crash"  # one instant over all disks, but some file system could not be frozen
FROZEN_WHILE_READ = "frozen_while_read"  # file systems stood still until all was read
NOT_GUARANTEED = "not_guaranteed"  # read as it was; nothing held it still


@dataclass(frozen=True)
class Disk:
    """A disk as a point knows it.

    `key` stays the same when the disk moves to other hardware; `number` is its place in the point.
    """

    number: int
    key: str
    device: str
    capacity_bytes: int
    controller: str
    is_boot: bool


@dataclass(frozen=True)
class DiskView:
    """A disk that stands still; `path` is read instead of the disk itself."""

    disk: Disk
    path: Path
    capacity_bytes: int


class View(Protocol):
    """All disks at one instant."""

    disks: list[DiskView]
    consistency: str

    def check(self) -> None:
        """Raise `SnapshotFailed` when what was read so far cannot be relied on."""


class Provider(Protocol):
    """One way to hold disks still."""

    name: str

    def disks(self) -> list[Disk]:
        """Return the disks that a point will hold, in their order."""

    def open_view(self, hold: Hold | None = None) -> AbstractContextManager[View]:
        """Take a view of all disks; leaving the context releases it.

        hold: keeps what was frozen for the view, also when it is left, instead of thawing it.
        """
