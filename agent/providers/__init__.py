"""Snapshot providers: each keeps a consistent view of whole disks while it is read.

A provider can list its disks at any time. For a point it opens a view, and leaving the view
releases it, whatever happened in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agent.providers.hold import Hold
    from agent.providers.watch import Watch

# How consistent a point is. These words are stored in recovery points and never change.
FILE_SYSTEM = "file_system"  # all disks at one instant, with frozen file systems
CRASH = "crash"  # all disks at one instant, but a file system could not be frozen
FROZEN_WHILE_READ = "frozen_while_read"  # file systems stayed frozen until everything was read
NOT_GUARANTEED = "not_guaranteed"  # read without a freeze or a snapshot


@dataclass(frozen=True)
class Disk:
    """A disk in a point.

    `key` stays the same when the disk moves to other hardware; `number` is its position in the
    point.
    """

    number: int
    key: str
    device: str
    capacity_bytes: int
    controller: str
    is_boot: bool


@dataclass(frozen=True)
class DiskView:
    """A disk at one instant; `path` is read instead of the disk itself.

    `changed`: the runs (first grain, count) written since the watched view, none past the disk's
    end; None if they are unknown.
    """

    disk: Disk
    path: Path
    capacity_bytes: int
    changed: Sequence[tuple[int, int]] | None = None


class View(Protocol):
    """All disks at one instant."""

    disks: list[DiskView]
    consistency: str

    def check(self) -> None:
        """Raise `SnapshotFailed` if the data read so far is not reliable."""


class Provider(Protocol):
    """One way to take a consistent view.

    can_watch: whether it can record what is written after a view.
    """

    name: str
    can_watch: bool

    def disks(self) -> list[Disk]:
        """Return the disks of a point in their order."""

    def open_view(
        self, hold: Hold | None = None, watch: Watch | None = None, since: Watch | None = None
    ) -> AbstractContextManager[View]:
        """Take a view of all disks; leaving the context releases it.

        hold: keeps the file systems frozen, even after the view has been released.
        watch: keeps the view if it is left without an error. A provider that cannot record later
            writes ignores it.
        since: the watch that kept an earlier view; the provider takes the view, and the watch ends.
        """
