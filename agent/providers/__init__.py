"""Snapshot providers: each holds a consistent view of whole disks still while it is read.

A provider is asked for its disks at any time, and for a view when a point is taken. Leaving the
view releases it, whatever happened in between.
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
    """A disk that stands still; `path` is read instead of the disk itself.

    `changed`: the (first grain, count) of all that was written since the view that was watched,
    none past the disk's end; None if that is not known.
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
        """Raise `SnapshotFailed` when what was read so far cannot be relied on."""


class Provider(Protocol):
    """One way to hold disks still.

    can_watch: whether it can know what is written after a view.
    """

    name: str
    can_watch: bool

    def disks(self) -> list[Disk]:
        """Return the disks that a point will hold, in their order."""

    def open_view(
        self, hold: Hold | None = None, watch: Watch | None = None, since: Watch | None = None
    ) -> AbstractContextManager[View]:
        """Take a view of all disks; leaving the context releases it.

        hold: keeps what was frozen for the view, also when it is left, instead of thawing it.
        watch: keeps the view when it is left without an error, instead of releasing it. A provider
            that cannot know what is written after a view does not hand it over.
        since: what an earlier view was kept by, for the provider to take; it is over then.
        """
