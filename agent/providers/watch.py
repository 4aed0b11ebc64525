"""Watch what is written after a point, so that the next one need not read whole disks.

Instead of releasing the views of the point, a provider hands them over, and they record later
writes. A watch takes memory, so it ends when its time has passed or the views are lost. Any other
point ends it too. That does no harm: the next point then reads everything.
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
    """Views that are kept after they have been read."""

    def find_loss(self) -> str:
        """Return why the views no longer know what was written; empty if they do."""

    def release(self) -> None:
        """Remove the views. Raises `SnapshotFailed` if that is not possible."""


class Watch:
    """One watch, from `keep` until `take`, `release`, a loss, or the end of its time.

    cids: the content ids of the disks in the point that it follows, by key.
    ended_because: why the later writes are unknown, for a person.
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
        """Tell whether the watch has started and is not over."""
        return self._kept is not None

    def take(self) -> KeptViews | None:
        """Return the views, which the caller now has to release; None if the watch is over."""
        with self._lock:
            kept, self._kept = self._kept, None
            self._is_over.set()
            return kept

    def release(self, reason: str = "it was ended") -> bool:
        """End the watch; False if it was already over."""
        with self._lock:
            return self._release(reason)

    def _poll(self) -> None:
        deadline = time.monotonic() + self.limit_seconds
        while not self._is_over.wait(
            max(0.0, min(self._poll_seconds, deadline - time.monotonic()))
        ):
            with self._lock:
                if time.monotonic() >= deadline:
                    self._release(f"its {self.limit_seconds} seconds have passed")
                elif self._kept is not None:
                    loss = self._kept.find_loss()
                    if loss:
                        self._release(loss)

    def _release(self, reason: str) -> bool:
        """End the watch. The lock is held so that no new views are made until these are gone."""
        kept, self._kept = self._kept, None
        self._is_over.set()
        if kept is None:
            return False
        self.ended_because = reason
        log.info("watch over reason=%s", reason)
        try:
            kept.release()
        except (SnapshotFailed, OSError) as error:
            # The next view tries again, and reports a failure.
            log.warning("watch not released reason=%s", error)
        return True
