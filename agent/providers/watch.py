"""Watch what is written after a point, so that the next one need not read whole disks.

A provider hands over the views of the point instead of releasing them: they record what is written
afterwards. A watch takes memory, so it ends by itself when its time is over or the views are lost.
Every other point ends it too. Ending it does no harm: the next point then reads everything.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

from agent.errors import SnapshotFailed

log = logging.getLogger(__name__)

_POLL_SECONDS = 10.0


class KeptViews(Protocol):
    """Views that are kept after they were read."""

    def find_loss(self) -> str:
        """Return why they do not know any more what was written; empty as long as they do."""

    def release(self) -> None:
        """Remove them. Raises `SnapshotFailed` where that is not possible."""


class Watch:
    """One watch: it begins with `keep`, and is over by `take`, `release`, loss or time.

    cids: the content ids of the disks of the point that it follows, by their keys.
    ended_because: why nothing is known of what was written, for a person.
    """

    def __init__(self, limit_seconds: int, poll_seconds: float = _POLL_SECONDS) -> None:
        self.limit_seconds = limit_seconds
        self._poll_seconds = poll_seconds
        self.cids: dict[str, str] = {}
        self.ended_because = ""
        self._lock = threading.Lock()
        self._kept: KeptViews | None = None
        self._is_over = threading.Event()

    def keep(self, kept: KeptViews) -> None:
        """Take over the views."""
        self._kept = kept
        threading.Thread(target=self._poll, name="watch", daemon=True).start()

    @property
    def is_active(self) -> bool:
        """Tell whether it has begun and is not over."""
        return self._kept is not None

    def take(self) -> KeptViews | None:
        """Return the views, which are the caller's now; None if it is over."""
        with self._lock:
            kept, self._kept = self._kept, None
            self._is_over.set()
            return kept

    def release(self, reason: str = "it was ended") -> bool:
        """End it; False when it was over before."""
        with self._lock:
            return self._release(reason)

    def _poll(self) -> None:
        deadline = time.monotonic() + self.limit_seconds
        while not self._is_over.wait(
            max(0.0, min(self._poll_seconds, deadline - time.monotonic()))
        ):
            with self._lock:
                if time.monotonic() >= deadline:
                    self._release(f"its {self.limit_seconds} seconds were over")
                elif self._kept is not None:
                    loss = self._kept.find_loss()
                    if loss:
                        self._release(loss)

    def _release(self, reason: str) -> bool:
        """End it. The lock is held until the views are gone, so that nobody makes new ones."""
        kept, self._kept = self._kept, None
        self._is_over.set()
        if kept is None:
            return False
        self.ended_because = reason
        log.info("watch over reason=%s", reason)
        try:
            kept.release()
        except (SnapshotFailed, OSError) as error:
            # The next view tries it again, and says so if it cannot.
            log.warning("watch not released reason=%s", error)
        return True
