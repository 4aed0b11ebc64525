"""Keep file systems frozen after a point, so that nothing is written that it does not hold.

A provider hands over what it froze, with the watchdog, instead of thawing. From then on the core
has to be heard from within the limit, or the watchdog thaws: a machine must not stay frozen for
ever because a core was lost. A hold is meant to end when the machine is powered off.

While a hold lasts, nothing here may touch a frozen file system: memory is locked, log lines are
held back, and the service answers from what it read before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from agent.errors import HoldLost, SnapshotFailed
from agent.providers.freeze import OpenMounts, Watchdog, lock_memory, unlock_memory

_POLL_SECONDS = 0.5


class Frozen(Protocol):
    """What is frozen."""

    def close(self) -> None:
        """Thaw it; harmless when it is thawed."""


class Hold:
    """One hold, from `keep` until `release` or until the watchdog thaws.

    on_over: called once after the thaw, by the thread that notices the end.
    """

    def __init__(self, limit_seconds: int, on_over: Callable[[], object]) -> None:
        self.limit_seconds = limit_seconds
        self._on_over = on_over
        self._lock = threading.Lock()
        self._frozen: Frozen | None = None
        self._watchdog: Watchdog | None = None
        self._is_over = threading.Event()

    def keep(self, frozen: Frozen, watchdog: Watchdog) -> None:
        """Take over what is frozen.

        Raises:
            SnapshotFailed: memory cannot be locked; nothing was taken over.
        """
        lock_memory()
        self._frozen, self._watchdog = frozen, watchdog
        threading.Thread(target=self._watch, name="hold", daemon=True).start()

    @property
    def has_taken_over(self) -> bool:
        """Tell whether this hold is, or was, responsible for the thaw and the watchdog."""
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
        """Thaw; False when it was over before."""
        return self._end()

    def _watch(self) -> None:
        while not self._is_over.wait(_POLL_SECONDS):
            with self._lock:
                is_armed = self._watchdog is not None and self._watchdog.is_armed()
            if not is_armed:
                self._end()

    def _end(self) -> bool:
        """Thaw what is still frozen and call `on_over`, once; True if the hold lasted until now."""
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
    """Open and freeze all file systems, and have them kept.

    Raises:
        SnapshotFailed: one could not be frozen; all are thawed again.
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
