"""Run workflows in tests with the real engine, in process, and inject faults.

No Celery and no test doubles: `run_until_done` is a worker that never sleeps longer than it must.
"""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone

from console.jobs import engine, rescue
from console.jobs.acts import cancel_job
from console.jobs.choices import EventType, StepState
from console.jobs.doors import doors
from console.jobs.models import Job
from console.jobs.wake import lease_seconds
from console.jobs.workflow import Step, StepAction, StepFailed

FAULT = "TEST-FAULT"
_WORLD_WAIT_SECONDS = 0.1


class WorkerCrashed(BaseException):
    """Stands for kill -9: no code of the worker runs after it."""


class JumpingClock:
    """The real time, plus what was skipped."""

    def __init__(self) -> None:
        self._skipped = datetime.timedelta()

    def __call__(self) -> datetime.datetime:
        return timezone.now() + self._skipped

    def skip(self, seconds: float) -> None:
        self._skipped += datetime.timedelta(seconds=seconds)

    def skip_to(self, moment: datetime.datetime) -> None:
        self._skipped += max(moment - self(), datetime.timedelta())


def run_until_done(job: Job, clock: JumpingClock | None = None, limit_seconds: float = 300) -> Job:
    """Work on a job until it has finished or needs attention, and return it.

    The engine's own pauses (back-off, a dead worker's lease) are skipped on the clock; while a step
    waits for the outside world, real time passes. Another worker follows a crashed one.
    """
    clock = clock or JumpingClock()
    ends_at_seconds = time.monotonic() + limit_seconds
    while True:
        job.refresh_from_db()
        if job.is_finished:
            return job
        if time.monotonic() > ends_at_seconds:
            raise AssertionError(f"{job} did not finish:\n{log_of(job)}")
        _make_claimable(job, clock)
        with contextlib.suppress(WorkerCrashed):
            engine.run_job(job.id, clock=clock, send=_send_nothing)


def log_of(job: Job) -> str:
    """Return a job's log as text, one event per line."""
    return "\n".join(
        f"{event.number:3} {event.step:24} {event.type:16} {event.payload}"
        for event in job.events.all()
    )


@contextlib.contextmanager
def fail_at(
    *steps: str, is_undo: bool = False, times: int | None = None, code: str = FAULT
) -> Iterator[None]:
    """Make steps (or their undos) fail before they act, always or `times` times each.

    The end of the block asserts that each of them did.
    """
    failures = dict.fromkeys(steps, 0)

    def call(running: Step, action: StepAction, context: Any, undo: bool) -> Any:
        name = running.name
        if name in failures and undo == is_undo and (times is None or failures[name] < times):
            failures[name] += 1
            raise StepFailed(code, f"A fault was injected into {name}.")
        return previous(running, action, context, undo)

    previous = doors.call
    with _door("call", call):
        yield
    _assert_all_happened("no failure of", failures)


@contextlib.contextmanager
def run_twice() -> Iterator[None]:
    """Run every step and every undo twice in a row; the second result counts."""

    def call(running: Step, action: StepAction, context: Any, undo: bool) -> Any:
        previous(running, action, context, undo)
        return previous(running, action, context, undo)

    previous = doors.call
    with _door("call", call):
        yield


@contextlib.contextmanager
def crash_after(event_type: EventType, *steps: str) -> Iterator[None]:
    """Kill the worker once in each of these steps, right after it has written this event.

    The end of the block asserts that each crash happened.
    """
    with _crash("after_event", event_type, steps):
        yield


@contextlib.contextmanager
def restore_points(event_type: EventType) -> Iterator[list[Callable[[], None]]]:
    """Collect ways to put the database back to right before each event of that type.

    Use the last one first. Works inside a test's transaction: each is a savepoint of it.
    """
    restores: list[Callable[[], None]] = []

    def before_event(event: EventType, step: str) -> None:
        previous(event, step)
        if event == event_type:
            restores.append(partial(transaction.savepoint_rollback, transaction.savepoint()))

    previous = doors.before_event
    with _door("before_event", before_event):
        yield restores


@contextlib.contextmanager
def crash_before(event_type: EventType, *steps: str) -> Iterator[None]:
    """Kill the worker once in each of these steps, after it has acted, before it writes this event.

    The end of the block asserts that each crash happened.
    """
    with _crash("before_event", event_type, steps):
        yield


@contextlib.contextmanager
def cancel_after(job: Job, step: str) -> Iterator[None]:
    """Cancel the job when a step has acted, and kill the worker before it can record that.

    The step has had its effect, but the log does not know. The next worker's attempt must find it:
    either the step succeeds and is undone, or it removes the effect as it stops.
    """
    cancelled = {step: 0}

    def door(happening: EventType, at_step: str) -> None:
        if (happening, at_step) == (EventType.SUCCEEDED, step) and not cancelled[step]:
            cancelled[step] += 1
            cancel_job(job, None)
            raise WorkerCrashed(f"{happening} of {at_step}")

    with _door("before_event", door):
        yield
    _assert_all_happened("no cancel after", cancelled)


@contextlib.contextmanager
def cancel_midway(job: Job, step: str) -> Iterator[None]:
    """Cancel the job as soon as a step reports its first bytes."""
    cancelled = {step: 0}

    def cancel() -> None:
        cancelled[step] += 1
        if cancelled[step] == 1:
            cancel_job(job, None)

    def call(running: Step, action: StepAction, context: Any, undo: bool) -> Any:
        if running.name == step and not undo:
            context = _Watched(context, cancel)
        return previous(running, action, context, undo)

    previous = doors.call
    with _door("call", call):
        yield
    _assert_all_happened("no bytes of", cancelled)


class _Watched:
    """A step's context that calls a function at each report of bytes."""

    def __init__(self, context: Any, at_bytes: Callable[[], None]) -> None:
        self._context = context
        self._at_bytes = at_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def progress(self, done_bytes: int, total_bytes: int | None = None) -> None:
        self._context.progress(done_bytes, total_bytes)
        if done_bytes > 0:
            self._at_bytes()


@contextlib.contextmanager
def _crash(door_name: str, event_type: EventType, steps: Sequence[str]) -> Iterator[None]:
    crashes = dict.fromkeys(steps, 0)

    def door(happening: EventType, at_step: str) -> None:
        if happening == event_type and crashes.get(at_step) == 0:
            crashes[at_step] += 1
            raise WorkerCrashed(f"{event_type} of {at_step}")

    with _door(door_name, door):
        yield
    _assert_all_happened(f"no crash at {event_type} of", crashes)


def _assert_all_happened(what: str, counts: Mapping[str, int]) -> None:
    missing = [step for step, count in counts.items() if not count]
    assert not missing, f"{what} {', '.join(missing)}"


@contextlib.contextmanager
def _door(name: str, function: Any) -> Iterator[None]:
    before = getattr(doors, name)
    setattr(doors, name, function)
    try:
        yield
    finally:
        setattr(doors, name, before)


def _make_claimable(job: Job, clock: JumpingClock) -> None:
    """Skip or wait until the job can be claimed again."""
    if job.lease_until is not None:
        clock.skip_to(job.lease_until + datetime.timedelta(milliseconds=1))
        clock.skip(rescue.LONGEST_RESEND_SECONDS)
        row = rescue.OpenJob(job.id, job.lease_until, job.wake_at, job.sent_at, job.send_count)
        assert rescue.due_wake_ups([row], clock()), "the rescuer would not wake the job"
    elif job.wake_at is not None and (seconds := (job.wake_at - clock()).total_seconds()) > 0:
        if job.steps.filter(state=StepState.WAITING).exists():
            time.sleep(min(_WORLD_WAIT_SECONDS, seconds))
            Job.objects.filter(id=job.id).update(wake_at=None)
        else:
            clock.skip_to(job.wake_at)


def _send_nothing(job: Job, delay_seconds: float) -> bool:
    return True


__all__ = [
    "FAULT",
    "JumpingClock",
    "WorkerCrashed",
    "cancel_after",
    "cancel_midway",
    "crash_after",
    "crash_before",
    "fail_at",
    "lease_seconds",
    "log_of",
    "run_twice",
    "run_until_done",
]
