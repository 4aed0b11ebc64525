"""A moment by two clocks: one that people set, and one that only a restart sets back."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Deadline:
    """A moment on this computer that no setting of its clock may put off.

    boot_seconds: since the start of this computer, `boot_id`.
    """

    at: datetime
    boot_id: str
    boot_seconds: float

    @classmethod
    def now(cls) -> Deadline:
        boot_seconds = time.clock_gettime(time.CLOCK_BOOTTIME)
        at = datetime.fromtimestamp(time.time(), timezone.utc)
        return cls(at, _BOOT_ID.read_text().strip(), boot_seconds)

    def after(self, seconds: float) -> Deadline:
        """Return the moment so many seconds later."""
        return Deadline(
            self.at + timedelta(seconds=seconds), self.boot_id, self.boot_seconds + seconds
        )

    @property
    def is_past(self) -> bool:
        """Whether it has passed by either clock.

        One of them may have been set back; the other stands still in a VM that is suspended. After
        a restart, or on another computer, nobody can tell, so it counts as past.
        """
        now = Deadline.now()
        if now.boot_id != self.boot_id:
            return True
        return now.boot_seconds > self.boot_seconds or now.at > self.at

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Deadline:
        """Read what `to_json` wrote."""
        return cls(**{**value, "at": datetime.fromisoformat(value["at"])})
