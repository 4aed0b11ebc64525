"""A worker's signs of life for one job: it renews the lease and saves live figures.

A thread does both once a second while steps run, so that steps neither have to think of it nor pay
for it. It also notices when the job is cancelled or the lease is lost.
"""

import collections
import dataclasses
import datetime
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from uuid import UUID

from django.db import DatabaseError, connection
from django.db.models import F

from console.jobs.models import Job, JobStep

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
# The window of a rate: long enough to be steady, short enough to be current.
RATE_WINDOW_SECONDS = 15.0


@dataclasses.dataclass
class Progress:
    """How far the running step has got, and how fast it has been lately."""

    done_bytes: int = 0
    total_bytes: int | None = None
    samples: "collections.deque[tuple[float, int]]" = dataclasses.field(
        default_factory=collections.deque
    )

    def report(self, done_bytes: int, total_bytes: int | None, at_seconds: float) -> bool:
        """Take new figures; return whether they differ. Progress never goes backwards."""
        before = (self.done_bytes, self.total_bytes)
        self.done_bytes = max(self.done_bytes, done_bytes)
        self.total_bytes = self.total_bytes if total_bytes is None else total_bytes
        self.samples.append((at_seconds, self.done_bytes))
        while at_seconds - self.samples[0][0] > RATE_WINDOW_SECONDS and len(self.samples) > 2:
            self.samples.popleft()
        return before != (self.done_bytes, self.total_bytes)

    @property
    def rate_bps(self) -> int | None:
        """Bytes per second over the window; None while it is too early to tell."""
        if len(self.samples) < 2:
            return None
        (first_at, first_bytes), (last_at, last_bytes) = self.samples[0], self.samples[-1]
        seconds = last_at - first_at
        return int((last_bytes - first_bytes) / seconds) if seconds >= TICK_SECONDS else None


class Pulse:
    """Keep a lease and save progress while the block runs.

    Inside the caller's transaction, as in most tests, another thread could not see the row. There
    it works without a thread, and saves when it gets figures.
    """

    def __init__(
        self,
        job_id: UUID,
        owner: str,
        lease_seconds: float,
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self.job_id = job_id
        self.owner = owner
        self.lease_seconds = lease_seconds
        self.clock = clock
        self.is_cancel_requested = False
        self._is_lost = False
        self._step = ""
        self._progress = Progress()
        self._last_report: tuple[int, int | None] | None = None
        self._is_unsaved = False
        self._lock = threading.Lock()
        self._renewed_at_seconds = self._saved_at_seconds = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Pulse":
        if not connection.in_atomic_block:
            self._thread = threading.Thread(
                target=self._beat, name=f"pulse-{self.job_id}", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def begin_step(self, step: str) -> None:
        with self._lock:
            self._step, self._progress, self._is_unsaved = step, Progress(), False

    def report(self, done_bytes: int, total_bytes: int | None) -> None:
        """Take the running step's figures. They are saved at most once a second."""
        with self._lock:
            changed = self._progress.report(done_bytes, total_bytes, time.monotonic())
            self._is_unsaved = self._is_unsaved or changed
        if self._thread is None and time.monotonic() - self._saved_at_seconds >= TICK_SECONDS:
            self._tick()

    @property
    def is_lost(self) -> bool:
        """Whether another worker holds the job, or may hold it: the lease was not renewed in time.

        Judged by the clock alone, so that a hanging tick cannot hide it. Once lost, always lost.
        """
        if self._thread is not None and self._is_lease_over():
            self._is_lost = True
        return self._is_lost

    @property
    def figures(self) -> tuple[int, int | None]:
        """Bytes done and total bytes of the running step."""
        return self._progress.done_bytes, self._progress.total_bytes

    def poll(self) -> None:
        """Check for a cancel and a lost lease now, if no thread does."""
        if self._thread is None:
            self._read()

    def _beat(self) -> None:
        try:
            while not self._stop.wait(TICK_SECONDS):
                self._tick_bravely()
        finally:
            connection.close()

    def _tick_bravely(self) -> None:
        """Tick; a database that is briefly unavailable must not end the pulse."""
        try:
            self._tick()
        except DatabaseError as error:
            logger.warning("pulse missed job=%s error=%s", self.job_id, error)
            connection.close()

    def _is_lease_over(self) -> bool:
        return time.monotonic() - self._renewed_at_seconds > self.lease_seconds

    def _tick(self) -> None:
        if self.is_lost:
            return
        if time.monotonic() - self._renewed_at_seconds >= self.lease_seconds / 4:
            renewing_at_seconds = time.monotonic()
            now = self.clock()
            if Job.objects.renew(self.job_id, self.owner, now, self.lease_seconds):
                self._renewed_at_seconds = renewing_at_seconds
        self._save_progress()
        self._read()

    def _save_progress(self) -> None:
        with self._lock:
            if not self._is_unsaved:
                return
            step, self._is_unsaved = self._step, False
            done_bytes, total_bytes = self.figures
            rate_bps = self._progress.rate_bps
        self._saved_at_seconds = time.monotonic()
        is_mine = Job.objects.filter(
            id=self.job_id, lease_owner=self.owner, current_step=step
        ).update(
            done_bytes=done_bytes,
            total_bytes=total_bytes,
            rate_bps=rate_bps,
            progress_at=self.clock(),
            revision=F("revision") + 1,
        )
        if is_mine:
            JobStep.objects.filter(job_id=self.job_id, name=step).update(
                done_bytes=done_bytes, total_bytes=total_bytes
            )

    def _read(self) -> None:
        row = (
            Job.objects.filter(id=self.job_id)
            .values_list("lease_owner", "is_cancel_requested")
            .first()
        )
        if row is None or row[0] != self.owner:
            self._is_lost = True
        elif row[1]:
            self.is_cancel_requested = True
