"""The context of a running step: the implementation of `workflow.StepContext`."""

import datetime
import threading
import time
from collections.abc import Callable
from typing import Any

from console.jobs.choices import EventType
from console.jobs.errors import JobCancelled, LeaseLost, StepTimedOut
from console.jobs.journal import Journal
from console.jobs.models import Job
from console.jobs.params import params_from_json
from console.jobs.pulse import Pulse
from console.jobs.workflow import Step


class RunningStep:
    """A step, or its undo, while a worker runs it."""

    def __init__(
        self,
        job: Job,
        step: Step,
        journal: Journal,
        pulse: Pulse,
        clock: Callable[[], datetime.datetime],
        is_undo: bool,
    ) -> None:
        history = journal.history.steps[step.name]
        self.job_id = job.id
        self.subject_id = job.subject_id
        self.subject_name = job.subject_name
        self.group_id = job.group_id
        self.requested_by = job.requested_by_name
        self.params: Any = params_from_json(journal.workflow.params, job.params)
        self.outputs = journal.history.outputs
        self.attempt = history.undo_attempt if is_undo else history.attempt
        self._step = step
        self._journal = journal
        self._pulse = pulse
        self._clock = clock
        self.is_undo = is_undo
        self._last_note = history.note
        self._pending_note: str | None = None
        self._thread_id = threading.get_ident()
        # Earlier runs of a step that waits count by the clock. This one does not: it may be set.
        now = clock()
        used_seconds = (now - (history.attempt_started_at or now)).total_seconds()
        self._ends_at_seconds = time.monotonic() + step.limit_seconds - max(0.0, used_seconds)

    @property
    def output(self) -> dict[str, Any]:
        return self.outputs.get(self._step.name, {})

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._ends_at_seconds - time.monotonic())

    def progress(self, done_bytes: int, total_bytes: int | None = None) -> None:
        self._pulse.report(done_bytes, total_bytes)

    def note(self, text: str) -> None:
        self._pending_note = text
        self.write_note()

    def write_note(self) -> None:
        """Write a note left by another thread, whose database connection nobody would close."""
        text = self._pending_note
        if text is None or threading.get_ident() != self._thread_id:
            return
        self._pending_note = None
        if text != self._last_note:
            self._last_note = text
            self._journal.add(EventType.NOTE, self._step.name, self._clock(), {"text": text})

    def check_lease(self) -> None:
        pulse = self._pulse
        if not Job.objects.renew(self.job_id, pulse.owner, self._clock(), pulse.lease_seconds):
            raise LeaseLost(f"another worker now holds job {self.job_id}")

    def check_cancel(self) -> None:
        self.write_note()
        self._pulse.poll()
        if self._pulse.is_lost:
            raise LeaseLost(f"another worker now holds job {self.job_id}")
        history = self._journal.history
        if self._pulse.is_cancel_requested and not self.is_undo and not history.is_past_return:
            raise JobCancelled
        if self.seconds_left <= 0:
            raise StepTimedOut(
                f"“{self._step.title}” did not finish within {self._step.limit_seconds:g} seconds."
            )
