"""What has reached the disks of a rescue machine, so that an interrupted restore can resume.

It is kept in the state folder, which is in memory on a rescue machine: a restarted agent resumes,
but a machine that has lost power knows nothing. An entry is never wrong: it counts a grain only
after the disk has been flushed, and is replaced before the first byte of other content is written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from agent.state import AgentState


@dataclass(frozen=True)
class DiskRestore:
    """The progress of one disk.

    token: what the disk will hold, or does if `is_done`.
    since_token: what the disk held at the start, if only the difference is written.
    head_hex: the disk's head, which is written just before the restart.
    """

    token: str
    since_token: str | None
    capacity_bytes: int
    next_grain: int = 0
    is_done: bool = False
    head_hex: str = ""


class RestoreJournal:
    """The entries of all disks, by key."""

    def __init__(self, state: AgentState) -> None:
        self._state = state
        self._disks = {
            key: DiskRestore(**entry) for key, entry in (state.find_restores() or {}).items()
        }

    def find(self, key: str) -> DiskRestore | None:
        """Return the entry of a disk, if there is one."""
        return self._disks.get(key)

    def find_all(self, token: str) -> dict[str, DiskRestore]:
        """Return the entries of a restore, by the keys of its disks."""
        return {key: entry for key, entry in self._disks.items() if entry.token == token}

    def entries(self) -> list[DiskRestore]:
        """Return the entries of all disks."""
        return list(self._disks.values())

    def save(self, key: str, entry: DiskRestore) -> None:
        """Replace the entry of a disk, and flush it."""
        self._disks[key] = entry
        disks: dict[str, Any] = {key: asdict(disk) for key, disk in self._disks.items()}
        self._state.save_restores(disks)

    def advance(self, key: str, next_grain: int, head: bytes, is_done: bool = False) -> None:
        """Record the progress of a disk."""
        entry = replace(
            self._disks[key], next_grain=next_grain, head_hex=head.hex(), is_done=is_done
        )
        self.save(key, entry)
