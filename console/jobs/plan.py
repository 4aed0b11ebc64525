"""From a job's events to its next move. Pure: no rows, no clock, no outside world.

The log of events is the truth. `replay` reads it into a `History` and rejects what cannot have
happened; `next_move` says what a worker has to do now. The engine and the projections that pages
show both use this module, so they cannot disagree.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from console.jobs.choices import RUNNABLE, EventType, JobState, StepState, UndoKind
from console.jobs.errors import IllegalEvent
from console.jobs.workflow import Step, Workflow

# How often something is tried before a job needs attention, and how long to wait in between.
FORWARD_ATTEMPTS = 5
UNDO_ATTEMPTS = 10
LOST_WORKERS_LIMIT = 5
_BACK_OFF_FIRST_SECONDS = 2
# No step waits longer to run again: a time further ahead is from before the clock went back.
LONGEST_WAIT_SECONDS = 60

CANCELLED = "JOBS-CANCELLED"
WORKER_LOST = "JOBS-WORKER-LOST"

# (state before, event) -> state after. Anything else is illegal.
STEP_TRANSITIONS: Mapping[tuple[StepState, EventType], StepState] = {
    (StepState.PENDING, EventType.STARTED): StepState.RUNNING,
    (StepState.FAILED, EventType.STARTED): StepState.RUNNING,
    (StepState.INTERRUPTED, EventType.STARTED): StepState.RUNNING,
    (StepState.WAITING, EventType.STARTED): StepState.RUNNING,
    (StepState.RUNNING, EventType.WAITING): StepState.WAITING,
    (StepState.WAITING, EventType.WAITING): StepState.WAITING,
    (StepState.RUNNING, EventType.SUCCEEDED): StepState.SUCCEEDED,
    (StepState.WAITING, EventType.SUCCEEDED): StepState.SUCCEEDED,
    (StepState.RUNNING, EventType.FAILED): StepState.FAILED,
    (StepState.WAITING, EventType.FAILED): StepState.FAILED,
    (StepState.RUNNING, EventType.WORKER_LOST): StepState.INTERRUPTED,
    (StepState.SUCCEEDED, EventType.UNDO_STARTED): StepState.UNDOING,
    (StepState.UNDO_FAILED, EventType.UNDO_STARTED): StepState.UNDOING,
    (StepState.UNDOING, EventType.UNDO_FINISHED): StepState.UNDONE,
    (StepState.UNDOING, EventType.UNDO_FAILED): StepState.UNDO_FAILED,
    (StepState.UNDOING, EventType.WORKER_LOST): StepState.UNDO_FAILED,
    (StepState.RUNNING, EventType.NOTE): StepState.RUNNING,
    (StepState.WAITING, EventType.NOTE): StepState.WAITING,
    (StepState.UNDOING, EventType.NOTE): StepState.UNDOING,
}

# These events set a step's bytes; in between they are live figures.
PROGRESS_EVENTS = frozenset(EventType) - {EventType.NOTE, EventType.WAITING}


@dataclasses.dataclass(frozen=True)
class Event:
    """One entry in a job's log. `step` is empty if it concerns the whole job."""

    number: int
    type: EventType
    step: str
    payload: Mapping[str, Any]
    at: datetime.datetime


@dataclasses.dataclass
class StepHistory:
    """What the log says about one step."""

    step: Step
    state: StepState = StepState.PENDING
    attempt: int = 0
    undo_attempt: int = 0
    # Counted since the last Retry.
    failures: int = 0
    undo_failures: int = 0
    lost_workers: int = 0
    started_at: datetime.datetime | None = None
    attempt_started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    failed_at: datetime.datetime | None = None
    output: dict[str, Any] | None = None
    note: str = ""
    # The note says what the step waits for, so it is dropped once the step is done.
    is_note_a_wait: bool = False
    error_code: str = ""
    error_text: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None

    @property
    def has_undo(self) -> bool:
        return self.step.undo_kind == UndoKind.UNDO

    @property
    def is_active(self) -> bool:
        """Whether the step's code may have run without a recorded end."""
        return self.state in (StepState.RUNNING, StepState.WAITING, StepState.INTERRUPTED)


@dataclasses.dataclass
class History:
    """What the log says about a job."""

    steps: dict[str, StepHistory]
    last_number: int = 0
    is_unwinding: bool = False
    is_closed: bool = False
    is_held: bool = False
    cancelled_by: str = ""
    error_code: str = ""
    error_text: str = ""
    started_at: datetime.datetime | None = None
    last_at: datetime.datetime | None = None

    @property
    def is_cancel_requested(self) -> bool:
        return bool(self.cancelled_by)

    @property
    def is_past_return(self) -> bool:
        """Whether an irreversible step has begun: from then on, a job only goes forward."""
        return any(
            history.step.irreversible and history.state != StepState.PENDING
            for history in self.steps.values()
        )

    @property
    def can_unwind(self) -> bool:
        """Whether everything that was done has an undo."""
        return not any(
            history.step.irreversible and (history.state == StepState.SUCCEEDED)
            for history in self.steps.values()
        )

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        return {
            name: history.output
            for name, history in self.steps.items()
            if history.output is not None
        }

    @property
    def left_over(self) -> list[StepHistory]:
        """The steps that have, or may have, left an effect, in order."""
        gone = (StepState.PENDING, StepState.FAILED, StepState.UNDONE)
        return [
            history
            for history in self.steps.values()
            if history.state not in gone and history.step.undo_kind != UndoKind.NOTHING
        ]


@dataclasses.dataclass(frozen=True)
class Run:
    """Run a step. `is_resumed`: it was waiting, and no new attempt begins."""

    step: Step
    attempt: int
    not_before: datetime.datetime | None = None
    is_resumed: bool = False


@dataclasses.dataclass(frozen=True)
class Undo:
    """Undo a step."""

    step: Step
    attempt: int
    not_before: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True)
class Finish:
    """Nothing to do: the job has finished or needs attention."""

    state: JobState


Move = Run | Undo | Finish


def back_off_seconds(failures: int) -> int:
    """Return how long to wait after this many failures in a row."""
    return int(min(_BACK_OFF_FIRST_SECONDS * 2 ** min(failures - 1, 10), LONGEST_WAIT_SECONDS))


def is_waited_for(moment: datetime.datetime | None, now: datetime.datetime) -> bool:
    """Tell whether a wait until that moment is not over yet."""
    longest = datetime.timedelta(seconds=LONGEST_WAIT_SECONDS)
    return moment is not None and now < moment <= now + longest


def new_history(workflow: Workflow) -> History:
    return History(steps={step.name: StepHistory(step) for step in workflow.steps})


def replay(workflow: Workflow, events: Iterable[Event]) -> History:
    """Return the history that a log tells.

    Raises:
        IllegalEvent: the log contains something that cannot have happened.
    """
    history = new_history(workflow)
    for event in events:
        apply_event(history, event)
    return history


def next_move(history: History) -> Move:
    """Return what a worker has to do now."""
    if history.is_closed:
        return Finish(JobState.FAILED)
    return Finish(JobState.HELD) if history.is_held else move_of_released(history)


def move_of_released(history: History) -> Move:
    """Return what a worker would have to do if the job were not held."""
    return _next_undo(history) if history.is_unwinding else _next_run(history)


def state_of(history: History) -> JobState:
    """Return the job's state."""
    move = next_move(history)
    if isinstance(move, Finish):
        return move.state
    if isinstance(move, Undo):
        return JobState.UNWINDING
    return JobState.RUNNING if history.started_at else JobState.QUEUED


def current_step(history: History) -> StepHistory | None:
    """Return the step that is running, is next or needs attention; none when the job is over."""
    move = move_of_released(history)
    if isinstance(move, Run | Undo):
        return None if history.is_closed else history.steps[move.step.name]
    if move.state != JobState.NEEDS_ATTENTION:
        return None
    forward = (StepState.FAILED, StepState.INTERRUPTED)
    troubled = (StepState.UNDO_FAILED,) if history.is_unwinding else forward
    return next((step for step in reversed(history.steps.values()) if step.state in troubled), None)


def _next_run(history: History) -> Move:
    for step in history.steps.values():
        if step.state == StepState.SUCCEEDED:
            continue
        if step.state in (StepState.WAITING, StepState.RUNNING):
            return Run(step.step, step.attempt, is_resumed=step.state == StepState.WAITING)
        if step.state == StepState.INTERRUPTED and step.lost_workers >= LOST_WORKERS_LIMIT:
            return Finish(JobState.NEEDS_ATTENTION)
        if step.state == StepState.FAILED and step.failures >= _attempts(history, step):
            return Finish(JobState.NEEDS_ATTENTION)
        return Run(step.step, step.attempt + 1, _after_failure(step, step.failures))
    return Finish(JobState.SUCCEEDED)


TO_UNDO = (StepState.SUCCEEDED, StepState.UNDOING, StepState.UNDO_FAILED)


def _next_undo(history: History) -> Move:
    for step in reversed(history.steps.values()):
        if step.state == StepState.UNDO_FAILED:
            if step.undo_failures >= UNDO_ATTEMPTS:
                return Finish(JobState.NEEDS_ATTENTION)
            return Undo(step.step, step.undo_attempt + 1, _after_failure(step, step.undo_failures))
        if step.state == StepState.UNDOING:
            return Undo(step.step, step.undo_attempt)
        if step.state == StepState.SUCCEEDED and step.has_undo:
            return Undo(step.step, step.undo_attempt + 1)
    return Finish(JobState.FAILED)


def _attempts(history: History, step: StepHistory) -> int:
    if not history.is_past_return:
        return step.step.attempts
    return max(step.step.attempts, FORWARD_ATTEMPTS)


def _after_failure(step: StepHistory, failures: int) -> datetime.datetime | None:
    if failures == 0 or step.failed_at is None:
        return None
    return step.failed_at + datetime.timedelta(seconds=back_off_seconds(failures))


def apply_event(history: History, event: Event) -> None:
    """Apply one event.

    Raises:
        IllegalEvent: it cannot happen now; `history` is unchanged.
    """
    if event.number != history.last_number + 1:
        raise IllegalEvent(f"event {event.number} follows event {history.last_number}")
    if event.step:
        _apply_to_step(history, event)
    else:
        _apply_to_job(history, event)
    history.last_number = event.number
    history.last_at = event.at


def _illegal(history: History, event: Event) -> IllegalEvent:
    step = history.steps.get(event.step)
    where = f"step {event.step} is {step.state if step else 'unknown'}" if event.step else "the job"
    return IllegalEvent(
        f"event {event.number} {event.type} cannot happen: {where}, job is {state_of(history)}"
    )


def _apply_to_step(history: History, event: Event) -> None:
    step = history.steps.get(event.step)
    after = STEP_TRANSITIONS.get((step.state, event.type)) if step else None
    if step is None or after is None or history.is_held or not _is_in_turn(history, event):
        raise _illegal(history, event)
    step.state = after
    if event.type == EventType.STARTED:
        history.started_at = history.started_at or event.at
        step.started_at = step.started_at or event.at
        step.attempt_started_at, step.finished_at = event.at, None
        step.attempt += 1
        step.note = ""
    elif event.type == EventType.UNDO_STARTED:
        step.attempt_started_at, step.finished_at = event.at, None
        step.undo_attempt += 1
        step.note = ""
    elif event.type in (EventType.NOTE, EventType.WAITING):
        step.note = str(event.payload["text"])
        step.is_note_a_wait = event.type == EventType.WAITING
    elif event.type == EventType.SUCCEEDED:
        _apply_success(history, step, event)
    elif event.type == EventType.UNDO_FINISHED:
        step.finished_at = event.at
        step.error_code, step.error_text = "", ""
    else:
        _apply_failure(history, step, event)
    if event.type in PROGRESS_EVENTS:
        step.done_bytes = int(event.payload.get("done_bytes") or 0)
        step.total_bytes = event.payload.get("total_bytes")


def _is_in_turn(history: History, event: Event) -> bool:
    """Tell whether a step or undo that starts is the next one."""
    move = next_move(history)
    if event.type == EventType.STARTED:
        return isinstance(move, Run) and move.step.name == event.step
    if event.type == EventType.UNDO_STARTED:
        return isinstance(move, Undo) and move.step.name == event.step
    return True


def _apply_success(history: History, step: StepHistory, event: Event) -> None:
    step.output = dict(event.payload.get("output") or {})
    if step.is_note_a_wait:
        step.note = ""
    step.finished_at = event.at
    step.error_code, step.error_text = "", ""
    if not history.is_unwinding:
        history.error_code, history.error_text = "", ""
    # A cancel during the very last step is too late.
    has_more = any(other.state == StepState.PENDING for other in history.steps.values())
    if history.is_cancel_requested and has_more and not history.is_past_return:
        _unwind_for_cancel(history)


def _apply_failure(history: History, step: StepHistory, event: Event) -> None:
    """Apply a failure, a failed undo or a lost worker."""
    step.error_code = str(event.payload["code"])
    step.error_text = str(event.payload["text"])
    step.finished_at = step.failed_at = event.at
    if step.state == StepState.UNDO_FAILED:
        step.undo_failures += 1
        return
    if step.state == StepState.INTERRUPTED:
        step.lost_workers += 1
        if step.lost_workers >= LOST_WORKERS_LIMIT:
            history.error_code, history.error_text = step.error_code, step.error_text
        return
    step.failures += 1
    step.lost_workers = 0
    if event.payload.get("is_permanent"):
        step.failures = max(step.failures, _attempts(history, step))
    history.error_code, history.error_text = step.error_code, step.error_text
    if history.is_past_return:
        return
    if history.is_cancel_requested:
        _unwind_for_cancel(history)
    elif step.failures >= step.step.attempts:
        history.is_unwinding = True


def _unwind_for_cancel(history: History) -> None:
    history.is_unwinding = True
    history.error_code = CANCELLED
    history.error_text = f"Cancelled by {history.cancelled_by}."


def _apply_to_job(history: History, event: Event) -> None:
    state = state_of(history)
    by = str(event.payload.get("by") or "the system")
    if event.type == EventType.CANCEL_REQUESTED:
        if state not in (JobState.QUEUED, JobState.RUNNING) or history.is_past_return:
            raise _illegal(history, event)
        history.cancelled_by = by
        if not any(step.is_active for step in history.steps.values()):
            _unwind_for_cancel(history)
        return
    if event.type == EventType.HELD and state in RUNNABLE:
        history.is_held = True
        return
    if event.type == EventType.RELEASED and state == JobState.HELD:
        history.is_held = False
        return
    may_close = event.type == EventType.CLOSED and state == JobState.HELD
    if state != JobState.NEEDS_ATTENTION and not may_close:
        raise _illegal(history, event)
    if event.type == EventType.RETRY_REQUESTED:
        _forget_failures(history)
    elif event.type == EventType.UNDO_REQUESTED:
        if not history.can_unwind or any(step.is_active for step in history.steps.values()):
            raise _illegal(history, event)
        history.is_unwinding = True
        _forget_failures(history)
    elif event.type == EventType.CLOSED:
        history.is_closed = True
        history.error_text = f"{history.error_text} Closed by {by}; nothing was undone.".strip()
    else:
        raise _illegal(history, event)


def _forget_failures(history: History) -> None:
    for step in history.steps.values():
        step.failures = step.undo_failures = step.lost_workers = 0
        step.failed_at = None
