"""The pure plan: what a log means, what comes next, and what cannot happen."""

import dataclasses
import datetime
from typing import Any

import pytest

from console.jobs import plan, workflow
from console.jobs.choices import EventType, JobState, StepState
from console.jobs.errors import IllegalEvent
from console.jobs.workflow import Step, Workflow

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True)
class NoParams:
    pass


def step(name: str, **changes: Any) -> Step:
    """Return a step that does nothing, with an undo unless the changes say why there is none."""

    def nothing(context: object) -> None:
        return None

    nothing.__name__ = name
    made = workflow.step(name.title(), limit_seconds=10, **changes)(nothing)
    if not made.undo_reason:
        made.undo(nothing)
    return made


def steps_in_order(*steps: Step) -> Workflow:
    return Workflow("plan-test", "Test", NoParams, lambda: steps)


THREE = steps_in_order(step("one"), step("look", nothing_to_undo="looks only"), step("two"))
LIVE = steps_in_order(step("one"), step("live", irreversible="it is live"), step("after"))


def log(*lines: str) -> list[plan.Event]:
    """Return events from words like `one:started` and `:cancel_requested`."""
    events = []
    for number, line in enumerate(lines, start=1):
        name, _, word = line.partition(":")
        payload = {"code": "X-BROKE", "text": f"{name} broke", "by": "ann"}
        at = NOW + datetime.timedelta(seconds=number)
        events.append(plan.Event(number, EventType(word), name, payload, at))
    return events


def done(*names: str) -> list[str]:
    return [f"{name}:{word}" for name in names for word in ("started", "succeeded")]


def state_after(flow: Workflow, *lines: str) -> JobState:
    return plan.state_of(plan.replay(flow, log(*lines)))


def move_after(flow: Workflow, *lines: str) -> tuple[str, str]:
    move = plan.next_move(plan.replay(flow, log(*lines)))
    if isinstance(move, plan.Finish):
        return "finish", move.state
    return type(move).__name__.lower(), move.step.name


def test_a_new_job_is_queued_and_runs_its_first_step() -> None:
    assert state_after(THREE) == JobState.QUEUED
    assert move_after(THREE) == ("run", "one")


def test_steps_run_in_order_to_the_end() -> None:
    assert move_after(THREE, *done("one")) == ("run", "look")
    assert state_after(THREE, *done("one", "look", "two")) == JobState.SUCCEEDED


def test_a_failure_rolls_back_from_the_end_and_skips_what_has_no_undo() -> None:
    lines = [*done("one", "look"), "two:started", "two:failed"]
    assert state_after(THREE, *lines) == JobState.UNWINDING
    assert move_after(THREE, *lines) == ("undo", "one")
    lines += ["one:undo_started", "one:undo_finished"]
    assert move_after(THREE, *lines) == ("finish", JobState.FAILED)


def test_a_failure_of_the_first_step_leaves_nothing_to_do() -> None:
    assert state_after(THREE, "one:started", "one:failed") == JobState.FAILED


def test_a_step_with_attempts_is_tried_again_after_a_pause() -> None:
    flow = steps_in_order(step("one", attempts=2))
    lines = ["one:started", "one:failed"]
    move = plan.next_move(plan.replay(flow, log(*lines)))
    assert isinstance(move, plan.Run)
    assert move.attempt == 2
    assert move.not_before is not None
    assert move.not_before > NOW
    assert state_after(flow, *lines, "one:started", "one:failed") == JobState.FAILED


def test_past_the_point_of_no_return_it_goes_forward_then_needs_attention() -> None:
    lines = [*done("one", "live"), "after:started", "after:failed"]
    assert move_after(LIVE, *lines) == ("run", "after")
    lines += ["after:started", "after:failed"] * (plan.FORWARD_ATTEMPTS - 1)
    assert state_after(LIVE, *lines) == JobState.NEEDS_ATTENTION
    assert move_after(LIVE, *lines, ":retry_requested") == ("run", "after")
    with pytest.raises(IllegalEvent):
        plan.replay(LIVE, log(*lines, ":undo_requested"))


def test_an_irreversible_step_that_failed_can_be_undone_by_hand() -> None:
    lines = [*done("one"), *["live:started", "live:failed"] * plan.FORWARD_ATTEMPTS]
    assert state_after(LIVE, *lines) == JobState.NEEDS_ATTENTION
    assert move_after(LIVE, *lines, ":undo_requested") == ("undo", "one")


def test_an_undo_is_tried_again_then_needs_attention() -> None:
    lines = [*done("one", "look"), "two:started", "two:failed"]
    lines += ["one:undo_started", "one:undo_failed"]
    assert move_after(THREE, *lines) == ("undo", "one")
    lines += ["one:undo_started", "one:undo_failed"] * (plan.UNDO_ATTEMPTS - 1)
    history = plan.replay(THREE, log(*lines))
    assert plan.state_of(history) == JobState.NEEDS_ATTENTION
    current = plan.current_step(history)
    assert current is not None
    assert current.step.name == "one"
    assert move_after(THREE, *lines, ":retry_requested") == ("undo", "one")
    assert state_after(THREE, *lines, ":closed") == JobState.FAILED


def test_back_off_grows_and_has_an_end() -> None:
    pauses = [plan.back_off_seconds(failures) for failures in range(1, 20)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 2
    assert pauses[-1] == 60


def test_cancel_of_a_queued_job_ends_it_untouched() -> None:
    history = plan.replay(THREE, log(":cancel_requested"))
    assert plan.state_of(history) == JobState.FAILED
    assert history.error_code == plan.CANCELLED
    assert history.error_text == "Cancelled by ann."


def test_cancel_lets_the_running_step_come_to_its_end_and_then_rolls_back() -> None:
    lines = ["one:started", ":cancel_requested"]
    assert move_after(THREE, *lines) == ("run", "one")
    assert move_after(THREE, *lines, "one:succeeded") == ("undo", "one")
    assert move_after(THREE, *lines, "one:failed") == ("finish", JobState.FAILED)


def test_cancel_in_the_last_step_comes_too_late() -> None:
    lines = [*done("one", "look"), "two:started", ":cancel_requested", "two:succeeded"]
    assert state_after(THREE, *lines) == JobState.SUCCEEDED


def test_cancel_is_illegal_from_the_start_of_an_irreversible_step() -> None:
    with pytest.raises(IllegalEvent):
        plan.replay(LIVE, log(*done("one"), "live:started", ":cancel_requested"))


def test_a_step_cut_off_runs_again_and_after_many_times_a_person_must_look() -> None:
    lines = ["one:started", "one:worker_lost"]
    assert move_after(THREE, *lines) == ("run", "one")
    lines = lines * plan.LOST_WORKERS_LIMIT
    assert state_after(THREE, *lines) == JobState.NEEDS_ATTENTION
    assert move_after(THREE, *lines, ":retry_requested") == ("run", "one")


def test_a_cut_off_undo_counts_as_a_failed_one() -> None:
    lines = [*done("one", "look"), "two:started", "two:failed"]
    lines += ["one:undo_started", "one:worker_lost"]
    assert move_after(THREE, *lines) == ("undo", "one")


def test_a_waiting_step_is_resumed_in_the_same_attempt() -> None:
    events = log("one:started", "one:waiting")
    move = plan.next_move(plan.replay(THREE, events))
    assert move == plan.Run(THREE.steps[0], attempt=1, is_resumed=True)


def test_what_a_step_waited_for_is_not_said_once_it_is_done() -> None:
    waited = log("one:started", "one:waiting")
    assert plan.replay(THREE, waited).steps["one"].note == "one broke"
    waited_then_done = log("one:started", "one:waiting", "one:succeeded")
    assert plan.replay(THREE, waited_then_done).steps["one"].note == ""
    noted = log("one:started", "one:waiting", "one:note", "one:succeeded")
    assert plan.replay(THREE, noted).steps["one"].note == "one broke"


@pytest.mark.parametrize(
    "lines",
    [
        ["one:succeeded"],
        ["two:started"],
        ["one:started", "one:started"],
        ["one:started", "one:undo_started"],
        ["one:started", "one:failed", "one:undo_started"],
        ["one:started", "one:failed", "one:started"],
        [*done("one"), "one:undo_started"],
        [*done("one"), "one:failed"],
        ["unknown:started"],
        [":retry_requested"],
        [":undo_requested"],
        [":closed"],
        [":started"],
        [":cancel_requested", ":cancel_requested"],
        [*done("one", "look", "two"), ":cancel_requested"],
    ],
)
def test_what_cannot_happen_is_refused(lines: list[str]) -> None:
    with pytest.raises(IllegalEvent):
        plan.replay(THREE, log(*lines))


def test_a_gap_in_the_log_is_refused() -> None:
    events = log(*done("one"))
    with pytest.raises(IllegalEvent):
        plan.replay(THREE, [events[0], dataclasses.replace(events[1], number=3)])


def test_every_step_state_but_the_last_ones_has_a_way_on() -> None:
    leaving = {state for state, _ in plan.STEP_TRANSITIONS}
    assert set(StepState) - leaving == {StepState.UNDONE}
