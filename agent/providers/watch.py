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

_LOOK_SECONDS = 10.0


class Standing(Protocol):
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

    def __init__(self, limit_seconds: int, look_seconds: float = _LOOK_SECONDS) -> None:
        self.limit_seconds = limit_seconds
        self._look_seconds = look_seconds
        self.cids: dict[str, str] = {}
        self.ended_because = ""
        self._lock = threading.Lock()
        self._standing: Standing | None = None
        self._is_over = threading.Event()

    def keep(self, standing: Standing) -> None:
        """Take over the views."""
        self._standing = standing
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    @property
    def is_standing(self) -> bool:
        """Tell whether it has begun and is not over."""
        return self._standing is not None

    def take(self) -> Standing | None:
        """Return the views, which are the caller's now; None if it is over."""
        with self._lock:
            standing, self._standing = self._standing, None
            self._is_over.set()
            return standing

    def release(self, reason: str = "it was ended") -> bool:
        """End it; False when it was over before."""
        with self._lock:
            return self._release(reason)

    def _look(self) -> None:
        deadline = time.monotonic() + self.limit_seconds
        while not self._is_over.wait(
            max(0.0, min(self._look_seconds, deadline - time.monotonic()))
        ):
            with self._lock:
                if time.monotonic() >= deadline:
                    self._release(f"its {self.limit_seconds} seconds were over")
                elif self._standing is not None:
                    loss = self._standing.find_loss()
                    if loss:
                        self._release(loss)

    def _release(self, reason: str) -> bool:
        """End it. The lock is held until the views are gone, so that nobody makes new ones."""
        standing, self._standing = self._standing, None
        self._is_over.set()
        if standing is None:
            return False
        self.ended_because = reason
        log.info("watch over reason=%s", reason)
        try:
            standing.release()
        except (SnapshotFailed, OSError) as error:
            # The next view tries it again, and says so if it cannot.
            log.warning("watch not released reason=%s", error)
        return True
