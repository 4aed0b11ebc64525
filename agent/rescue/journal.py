"""What has reached the disks of a rescue machine, so that an interrupted restore can resume.

Kept in the state folder, which is in memory there: a restarted agent resumes, while a machine
that lost power knows nothing. An entry is only ever true: it says a grain is on the
disk after that was flushed, and forgets a disk's content before the first byte of another.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from agent.state import AgentState


@dataclass(frozen=True)
class DiskRestore:
    """How far a disk is.

    token: what it will hold, or does if `is_done`.
    since_token: what it held when this began, if only the difference is written.
    head_hex: what its head will hold, which is written right before the restart.
    """

    token: str
    since_token: str | None
    capacity_bytes: int
    next_grain: int = 0
    is_done: bool = False
    head_hex: str = ""


class RestoreJournal:
    """The entries of all disks, by their keys."""

    def __init__(self, state: AgentState) -> None:
        self._state = state
        self._disks = {
            key: DiskRestore(**entry) for key, entry in (state.find_restores() or {}).items()
        }

    def find(self, key: str) -> DiskRestore | None:
        """Return what is known of a disk."""
        return self._disks.get(key)

    def find_all(self, token: str) -> dict[str, DiskRestore]:
        """Return the disks of a restore."""
        return {key: entry for key, entry in self._disks.items() if entry.token == token}

    def entries(self) -> list[DiskRestore]:
        """Return what is known of all disks."""
        return list(self._disks.values())

    def save(self, key: str, entry: DiskRestore) -> None:
        """Replace what is known of a disk; on the state folder's medium when it returns."""
        self._disks[key] = entry
        disks: dict[str, Any] = {key: asdict(disk) for key, disk in self._disks.items()}
        self._state.save_restores(disks)

    def advance(self, key: str, next_grain: int, head: bytes, is_done: bool = False) -> None:
        """Note how far a disk is now."""
        entry = replace(
            self._disks[key], next_grain=next_grain, head_hex=head.hex(), is_done=is_done
        )
        self.save(key, entry)
