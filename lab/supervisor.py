"""Keep the programs and machines of a lab running; restart what dies, with back-off."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from lab.qemu import GuestFailed
from rescue_medium.commands import CommandFailed

log = logging.getLogger(__name__)
INTERVAL_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
# What has run this long counts as recovered: its next restart is quick again.
RECOVERED_SECONDS = 60.0


class Kept(Protocol):
    """Something that is kept running."""

    name: str

    @property
    def is_running(self) -> bool: ...
    def start(self) -> None: ...


@dataclass
class _Care:
    """The recent starts of something that is kept running."""

    started_at: float = 0.0
    start_after: float = 0.0
    pause_seconds: float = FIRST_PAUSE_SECONDS
    start_count: int = 0


class Supervisor:
    """Starts what is wanted and not running. `wanted` is called at every poll, so it may change."""

    def __init__(self, wanted: Callable[[], Iterable[Kept]], say: Callable[[str], None]) -> None:
        self._wanted = wanted
        self._say = say
        self._care: dict[int, _Care] = {}
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Start polling, in its own thread."""
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop starting things. What is running keeps running."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def poll_once(self) -> None:
        """Start everything that is wanted, is not running and has waited long enough."""
        now = time.monotonic()
        wanted = list(self._wanted())
        # What was not wanted for a while starts without a pause when it is wanted again.
        self._care = {id(kept): self._care.get(id(kept), _Care()) for kept in wanted}
        for kept in wanted:
            if self._stop.is_set():
                return
            care = self._care[id(kept)]
            if not kept.is_running and now >= care.start_after:
                self._start(kept, care, now)

    def _start(self, kept: Kept, care: _Care, now: float) -> None:
        if care.start_count:
            if now - care.started_at > RECOVERED_SECONDS:
                care.pause_seconds = FIRST_PAUSE_SECONDS
            self._say(f"{kept.name} has ended. Restarting it")
        care.start_count += 1
        care.started_at = now
        care.start_after = now + care.pause_seconds
        care.pause_seconds = min(care.pause_seconds * 2, LONGEST_PAUSE_SECONDS)
        try:
            kept.start()
        except (OSError, GuestFailed, CommandFailed) as error:
            self._say(f"{kept.name} does not start: {error}")

    def _run(self) -> None:
        while not self._stop.is_set():
            self.poll_once()
            self._stop.wait(INTERVAL_SECONDS)


def in_parallel(acts: Iterable[Callable[[], None]]) -> None:
    """Run all acts at the same time; raise the first failure after all have ended."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        for future in [pool.submit(act) for act in acts]:
            future.result()
