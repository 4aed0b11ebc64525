"""Run a job: claim it, make move after move from its log, and release it.

Whatever kills the worker, the log says how far it got, and the next worker that claims the job
continues there. The decisions are in `plan.py`; this module carries them out.
"""

import datetime
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

from billiard.exceptions import SoftTimeLimitExceeded
from django.core.serializers.json import DjangoJSONEncoder
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from console.jobs import plan
from console.jobs.choices import EventType, JobState, StepState
from console.jobs.context import RunningStep
from console.jobs.doors import doors
from console.jobs.errors import (
    DatabaseAway,
    JobCancelled,
    LeaseLost,
    StepFailed,
    StepTimedOut,
    UnknownWorkflow,
)
from console.jobs.hold import hold_if_restored
from console.jobs.journal import Journal, LogMoved
from console.jobs.models import Job
from console.jobs.pulse import Pulse
from console.jobs.wake import SLICE_SECONDS, lease_seconds, send_wake_up
from console.jobs.workflow import Step, StepAction, Waiting

logger = logging.getLogger(__name__)

INTERNAL = "INTERNAL"
# After a silence this long, a waiting step's time limit starts again: no worker was there to poll.
_AWAY_SECONDS = 60
_UNKNOWN_PLAN_AGAIN_SECONDS = 60
_RIVAL_AGAIN_SECONDS = 1.0

# A lock that was not released in time, a server that restarts. The next worker looks at what the
# step did outside; counted as the step's failure, it would be undone.
_DATABASE_ERRORS = (OperationalError, InterfaceError)

Clock = Callable[[], datetime.datetime]
Sender = Callable[[Job, float], bool]


def run_job(job_id: UUID, clock: Clock = timezone.now, send: Sender = send_wake_up) -> bool:
    """Do what a job has to do now; return False if another worker holds it or it has to wait.

    Safe to call at any time, by any number of workers: only the one that gets the lease works.
    """
    if hold_if_restored():
        return False
    job = Job.objects.select_related("requested_by").filter(id=job_id).first()
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
    if job is None or not Job.objects.claim(job_id, owner, clock(), lease_seconds()):
        logger.debug("job not claimed job=%s", job_id)
        return False
    try:
        journal = Journal(job_id, job.workflow, owner)
    except UnknownWorkflow as error:
        logger.warning("job left alone job=%s kind=%s error=%s", job_id, job.kind, error)
        wake_at = clock() + datetime.timedelta(seconds=_UNKNOWN_PLAN_AGAIN_SECONDS)
        Job.objects.release(job_id, owner, wake_at, clock())
        return False
    try:
        with Pulse(job_id, owner, lease_seconds(), clock) as pulse:
            wake_at_or_none = _Worker(job, journal, pulse, clock).work()
        _give_back(job, journal, wake_at_or_none, clock, send)
    except LeaseLost as error:
        logger.warning("lease lost job=%s error=%s", job_id, error)
    return True


def _give_back(
    job: Job, journal: Journal, wake_at: datetime.datetime | None, clock: Clock, send: Sender
) -> None:
    """Release the lease; if there is more to do, schedule the next wake-up."""
    assert journal.owner is not None
    now = clock()
    if not Job.objects.release(job.id, journal.owner, wake_at, now):
        raise LeaseLost(f"job {job.id} was taken over")
    job.refresh_from_db()
    if job.state == JobState.HELD:
        return
    if job.is_finished:
        logger.info("job ended job=%s kind=%s state=%s", job.id, job.kind, job.state)
        return
    if job.last_event_number != journal.history.last_number:
        # Someone made a request at the last moment: do not wait.
        Job.objects.filter(id=job.id).update(wake_at=None)
        wake_at = None
    send(job, max(0.0, (wake_at - now).total_seconds()) if wake_at else 0.0)


class _Worker:
    """One claim of one job."""

    def __init__(self, job: Job, journal: Journal, pulse: Pulse, clock: Clock) -> None:
        self.job = job
        self.journal = journal
        self.pulse = pulse
        self.clock = clock
        # The lease expired, or the wake-up is long overdue: no worker was there.
        overdue_at = job.lease_until or job.wake_at
        away = datetime.timedelta(seconds=0 if job.lease_until else _AWAY_SECONDS)
        self.was_away = overdue_at is not None and clock() - overdue_at > away

    def work(self) -> datetime.datetime | None:
        """Move until there is nothing to do now; return when to continue, or None when done."""
        self._record_lost_worker()
        ends_at_seconds = time.monotonic() + SLICE_SECONDS
        while True:
            move = plan.next_move(self.journal.read())
            if isinstance(move, plan.Finish):
                return None
            if plan.is_waited_for(move.not_before, self.clock()):
                return move.not_before
            if time.monotonic() > ends_at_seconds:
                return self.clock()
            try:
                again_at = self._undo(move) if isinstance(move, plan.Undo) else self._run(move)
            except LogMoved:
                continue
            if again_at is not None:
                return again_at

    def _record_lost_worker(self) -> None:
        """Record that a step was cut off: it is running, though nobody held the lease."""
        for step in self.journal.history.steps.values():
            if step.state in (StepState.RUNNING, StepState.UNDOING):
                text = "The worker that ran this step was lost. Another worker takes over."
                self._add(
                    EventType.WORKER_LOST, step.step, {"code": plan.WORKER_LOST, "text": text}
                )

    def _run(self, move: plan.Run) -> datetime.datetime | None:
        step = move.step
        if not move.is_resumed or self.was_away or self._starts_in_future(step):
            self._add(EventType.STARTED, step, {"worker": self.pulse.owner}, must_be_next=True)
            self.was_away = False
        context = self._context_of(step)
        try:
            if step.makes_exclusive:
                self._become_exclusive()
            output = self._call(step, step.action, context)
        except Waiting as waiting:
            return self._wait(step, waiting, context.seconds_left)
        except _DATABASE_ERRORS as error:
            raise DatabaseAway(f"step {step.name} of job {self.job.id}: {error}") from error
        except Exception as error:
            # The one place that may catch everything: whatever a step raises is its result.
            self._add(EventType.FAILED, step, self._failure(step, error))
            return None
        self._add(EventType.SUCCEEDED, step, {"output": output, **self._figures()})
        return None

    def _starts_in_future(self, step: Step) -> bool:
        """Whether the clock went back since the step was started; its time limit starts again."""
        started_at = self.journal.history.steps[step.name].attempt_started_at
        tolerance = datetime.timedelta(seconds=_AWAY_SECONDS)
        return started_at is not None and started_at > self.clock() + tolerance

    def _become_exclusive(self) -> None:
        """Wait until no other exclusive job of the subject is open, then become exclusive."""
        if Job.objects.make_exclusive(self.job.id):
            return
        rival = Job.objects.find_exclusive(self.job.subject_id)
        what = rival.title if rival is not None else "Another job"
        raise Waiting(
            f"{what} of {self.job.subject_name} has to finish first.", _RIVAL_AGAIN_SECONDS
        )

    def _undo(self, move: plan.Undo) -> datetime.datetime | None:
        step = move.step
        assert step.undo_action is not None
        self._add(EventType.UNDO_STARTED, step, {"worker": self.pulse.owner}, must_be_next=True)
        try:
            self._call(step, step.undo_action, self._context_of(step, is_undo=True))
        except _DATABASE_ERRORS as error:
            raise DatabaseAway(f"undo of {step.name} of job {self.job.id}: {error}") from error
        except Exception as error:
            self._add(EventType.UNDO_FAILED, step, self._failure(step, error))
            return None
        self._add(EventType.UNDO_FINISHED, step, self._figures())
        return None

    def _wait(self, step: Step, waiting: Waiting, seconds_left: float) -> datetime.datetime | None:
        """Free the worker for a while, unless the wait is over its limit or was cancelled."""
        history = self.journal.read()
        before = history.steps[step.name]
        again_in_seconds = min(waiting.again_in_seconds, plan.LONGEST_WAIT_SECONDS)
        error: StepFailed | None = None
        if history.is_cancel_requested and not history.is_past_return:
            error = JobCancelled()
        elif again_in_seconds > seconds_left:
            error = StepTimedOut(
                f"{waiting.reason} Gave up after the limit of {step.limit_seconds:g} seconds."
            )
        if error is not None:
            self._add(EventType.FAILED, step, self._failure(step, error))
            return None
        if before.state != StepState.WAITING or before.note != waiting.reason:
            self._add(EventType.WAITING, step, {"text": waiting.reason})
        return self.clock() + datetime.timedelta(seconds=again_in_seconds)

    def _context_of(self, step: Step, *, is_undo: bool = False) -> RunningStep:
        return RunningStep(self.job, step, self.journal, self.pulse, self.clock, is_undo)

    def _call(self, step: Step, action: StepAction, context: RunningStep) -> dict[str, Any]:
        """Run an action and return its output as plain JSON; log its start and its end."""
        self.pulse.begin_step(step.name)
        verb = "undo" if context.is_undo else "step"
        ids = (self.job.id, self.job.kind, step.name, context.attempt)
        logger.info(f"{verb} starts job=%s kind=%s step=%s attempt=%s", *ids)  # noqa: G004
        began_at_seconds = time.monotonic()
        result = "failed"
        try:
            output = doors.call(step, action, context, context.is_undo)
            context.write_note()
            result = "done"
        except Waiting:
            result = "waits"
            raise
        finally:
            seconds = time.monotonic() - began_at_seconds
            logger.info(
                f"{verb} {result} job=%s kind=%s step=%s attempt=%s seconds=%.3f",  # noqa: G004
                *ids,
                seconds,
            )
        plain = json.loads(json.dumps(output or {}, cls=DjangoJSONEncoder))
        if not isinstance(plain, dict):
            raise TypeError(f"step {step.name} must return a dict or None")
        return plain

    def _failure(self, step: Step, error: Exception) -> dict[str, Any]:
        if isinstance(error, SoftTimeLimitExceeded):
            error = StepTimedOut(f"“{step.title}” did not finish within its time limit.")
        # An undo cannot wait. What it would have waited for tells more than that.
        if isinstance(error, Waiting) and getattr(error.__cause__, "code", None):
            error = cast(Exception, error.__cause__)
        code = getattr(error, "code", None)
        if isinstance(error, Waiting):
            code, text = "JOBS-WAITING", error.reason
        elif isinstance(code, str) and code:
            text = str(getattr(error, "text", "") or error)
        else:
            logger.exception("step broke job=%s step=%s", self.job.id, step.name, exc_info=error)
            code, text = INTERNAL, f"{type(error).__name__}: {error}"
        is_permanent = bool(getattr(error, "is_permanent", False))
        return {"code": code, "text": text, "is_permanent": is_permanent, **self._figures()}

    def _figures(self) -> dict[str, Any]:
        done_bytes, total_bytes = self.pulse.figures
        return {"done_bytes": done_bytes, "total_bytes": total_bytes}

    def _add(
        self,
        event_type: EventType,
        step: Step,
        payload: dict[str, Any],
        must_be_next: bool = False,
    ) -> None:
        if self.pulse.is_lost:
            raise LeaseLost(f"another worker now holds job {self.job.id}")
        self.journal.add(event_type, step.name, self.clock(), payload, must_be_next=must_be_next)
