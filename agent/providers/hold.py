"""Keep file systems frozen after a point, so that nothing is written that it does not contain.

Instead of thawing, a provider hands over what it froze, with the watchdog. From then on, the core
has to call within the limit, or the watchdog thaws: a machine must not stay frozen forever because
a core was lost. A hold normally ends when the machine is powered off.

During a hold, nothing here may touch a frozen file system: memory is locked, log lines are held
back, and the service answers from what it has read before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from agent.errors import HoldLost, SnapshotFailed
from agent.providers.freeze import OpenMounts, Watchdog, lock_memory, unlock_memory

_POLL_SECONDS = 0.5


class Frozen(Protocol):
    """Something that is frozen."""

    def close(self) -> None:
        """Thaw it; harmless if repeated."""


class Hold:
    """One hold, from `keep` until `release` or until the watchdog thaws.

    on_over: called once after the thaw, in the thread that notices the end.
    """

    def __init__(self, limit_seconds: int, on_over: Callable[[], object]) -> None:
        self.limit_seconds = limit_seconds
        self._on_over = on_over
        self._lock = threading.Lock()
        self._frozen: Frozen | None = None
        self._watchdog: Watchdog | None = None
        self._is_over = threading.Event()

    def keep(self, frozen: Frozen, watchdog: Watchdog) -> None:
        """Take over the frozen file systems.

        Raises:
            SnapshotFailed: memory cannot be locked; nothing was taken over.
        """
        lock_memory()
        self._frozen, self._watchdog = frozen, watchdog
        threading.Thread(target=self._watch, name="hold", daemon=True).start()

    @property
    def has_taken_over(self) -> bool:
        """Tell whether this hold is or was responsible for the thaw and the watchdog."""
        return self._watchdog is not None

    def extend(self) -> None:
        """Restart the time limit.

        Raises:
            HoldLost: the file systems were thawed.
        """
        with self._lock:
            if self._watchdog is not None and self._watchdog.extend():
                return
        self._end()
        raise HoldLost(
            f"The machine's file systems were frozen, but nothing was heard from the core for "
            f"{self.limit_seconds} seconds, so they were thawed and the machine kept running. "
            "Take the final point again."
        )

    def release(self) -> bool:
        """Thaw; False if the hold was already over."""
        return self._end()

    def _watch(self) -> None:
        while not self._is_over.wait(_POLL_SECONDS):
            with self._lock:
                is_armed = self._watchdog is not None and self._watchdog.is_armed()
            if not is_armed:
                self._end()

    def _end(self) -> bool:
        """Thaw and call `on_over`, only once; True if the hold lasted until now."""
        with self._lock:
            if self._is_over.is_set():
                return False
            self._is_over.set()
            lasted = self._watchdog is not None
            if self._frozen is not None:
                self._frozen.close()
            if self._watchdog is not None:
                try:
                    self._watchdog.stand_down()
                except SnapshotFailed:
                    lasted = False
                unlock_memory()
        self._on_over()
        return lasted


def freeze_for(hold: Hold, mounts: OpenMounts) -> None:
    """Open and freeze all file systems, and hand them to the hold.

    Raises:
        SnapshotFailed: a file system could not be frozen; all are thawed again.
    """
    mounts.open()
    watchdog = Watchdog(hold.limit_seconds, mounts.thaw_all)
    try:
        mounts.freeze()
        hold.keep(mounts, watchdog)
    except BaseException:
        mounts.thaw()
        watchdog.stand_down()
        raise
