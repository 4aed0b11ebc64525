"""Run workflows in tests with the real engine, in process, and bring faults into them.

No Celery and no doubles: `run_until_done` is a worker that never sleeps longer than it must.
"""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator
from typing import Any

from django.utils import timezone

from console.jobs import engine, rescue
from console.jobs.choices import EventType, StepState
from console.jobs.doors import doors
from console.jobs.models import Job
from console.jobs.wake import lease_seconds
from console.jobs.workflow import Step, StepAction, StepFailed

FAULT = "TEST-FAULT"
_WORLD_WAIT_SECONDS = 0.1


class WorkerCrashed(BaseException):
    """Stands for kill -9: nothing of the worker's own runs after it."""


class JumpingClock:
    """The real time plus what was skipped."""

    def __init__(self) -> None:
        self._skipped = datetime.timedelta()

    def __call__(self) -> datetime.datetime:
        return timezone.now() + self._skipped

    def skip(self, seconds: float) -> None:
        self._skipped += datetime.timedelta(seconds=seconds)

    def skip_to(self, moment: datetime.datetime) -> None:
        self._skipped += max(moment - self(), datetime.timedelta())


def run_until_done(job: Job, clock: JumpingClock | None = None, limit_seconds: float = 120) -> Job:
    """Work on a job until it has ended or needs attention, and return it as it then is.

    Pauses of the engine (back-off, a dead worker's lease) are skipped on the clock; where a step
    waits for the world, real time passes. A crashed worker is followed by another one.
    """
    clock = clock or JumpingClock()
    ends_at_seconds = time.monotonic() + limit_seconds
    while True:
        job.refresh_from_db()
        if job.is_finished:
            return job
        if time.monotonic() > ends_at_seconds:
            raise AssertionError(f"{job} did not end:\n{log_of(job)}")
        _make_claimable(job, clock)
        with contextlib.suppress(WorkerCrashed):
            engine.run_job(job.id, clock=clock, send=_send_nothing)


def log_of(job: Job) -> str:
    """Return a job's log as text, one event a line."""
    return "\n".join(
        f"{event.number:3} {event.step:24} {event.type:16} {event.payload}"
        for event in job.events.all()
    )


@contextlib.contextmanager
def fail_at(
    step: str, *, is_undo: bool = False, times: int | None = None, code: str = FAULT
) -> Iterator[None]:
    """Have a step (or its undo) fail before it acts, always or so many times."""
    left = [times]

    def call(running: Step, action: StepAction, context: Any, undo: bool) -> Any:
        if running.name == step and undo == is_undo and left[0] != 0:
            left[0] = None if left[0] is None else left[0] - 1
            raise StepFailed(code, f"A fault was brought into {step}.")
        return previous(running, action, context, undo)

    previous = doors.call
    with _door("call", call):
        yield


@contextlib.contextmanager
def run_twice() -> Iterator[None]:
    """Have every step and every undo run twice in a row; the second time counts."""

    def call(running: Step, action: StepAction, context: Any, undo: bool) -> Any:
        previous(running, action, context, undo)
        return previous(running, action, context, undo)

    previous = doors.call
    with _door("call", call):
        yield


@contextlib.contextmanager
def crash_after(event_type: EventType, step: str) -> Iterator[None]:
    """Kill the worker once, right after it wrote this event."""
    with _door("after_event", _crash_once(event_type, step)):
        yield


@contextlib.contextmanager
def crash_before(event_type: EventType, step: str) -> Iterator[None]:
    """Kill the worker once, when it has acted but this event is not written."""
    with _door("before_event", _crash_once(event_type, step)):
        yield


def _crash_once(event_type: EventType, step: str) -> Callable[[EventType, str], None]:
    crashed: list[bool] = []

    def door(happening: EventType, at_step: str) -> None:
        if (happening, at_step) == (event_type, step) and not crashed:
            crashed.append(True)
            raise WorkerCrashed(f"{event_type} of {step}")

    return door


@contextlib.contextmanager
def _door(name: str, function: Any) -> Iterator[None]:
    before = getattr(doors, name)
    setattr(doors, name, function)
    try:
        yield
    finally:
        setattr(doors, name, before)


def _make_claimable(job: Job, clock: JumpingClock) -> None:
    """Let happen what has to before the job's next claim."""
    if job.lease_until is not None:
        clock.skip_to(job.lease_until + datetime.timedelta(milliseconds=1))
        clock.skip(rescue.LONGEST_RESEND_SECONDS)
        row = rescue.OpenJob(job.id, job.lease_until, job.wake_at, job.sent_at, job.send_count)
        assert rescue.plan_rescue([row], clock()), "nobody would rescue the job"
    elif job.wake_at is not None and job.wake_at > clock():
        if job.steps.filter(state=StepState.WAITING).exists():
            time.sleep(min(_WORLD_WAIT_SECONDS, (job.wake_at - clock()).total_seconds()))
            Job.objects.filter(id=job.id).update(wake_at=None)
        else:
            clock.skip_to(job.wake_at)


def _send_nothing(job: Job, delay_seconds: float) -> bool:
    return True


__all__ = [
    "FAULT",
    "JumpingClock",
    "WorkerCrashed",
    "crash_after",
    "crash_before",
    "fail_at",
    "lease_seconds",
    "log_of",
    "run_twice",
    "run_until_done",
]
