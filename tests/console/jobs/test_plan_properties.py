"""Whatever happens to a job, in any order, its plan keeps its promises."""

import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from console.jobs import plan
from console.jobs.choices import TERMINAL, EventType, JobState, StepState, UndoKind
from console.jobs.errors import IllegalEvent
from console.jobs.workflow import Workflow
from tests.console.jobs.test_plan import step, steps_in_order

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
# What may come of a step or an undo that was begun.
FORWARD_ENDS = ("succeeded", "succeeded", "failed", "permanent", "worker_lost", "waiting")
UNDO_ENDS = ("undo_finished", "undo_finished", "undo_failed", "worker_lost")
WISHES = (
    EventType.CANCEL_REQUESTED,
    EventType.RETRY_REQUESTED,
    EventType.UNDO_REQUESTED,
    EventType.CLOSED,
)


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    kinds = draw(st.lists(st.sampled_from(list(UndoKind)), min_size=1, max_size=5))
    steps = []
    for number, kind in enumerate(kinds):
        ways = {
            UndoKind.UNDO: {},
            UndoKind.NOTHING: {"nothing_to_undo": "why"},
            UndoKind.IRREVERSIBLE: {"irreversible": "why"},
        }[kind]
        attempts = draw(st.integers(1, 3))
        steps.append(step(f"step_{number}", attempts=attempts, **ways))
    return steps_in_order(*steps)


class Walk:
    """A job that lives through what is drawn for it."""

    def __init__(self, workflow: Workflow, data: st.DataObject) -> None:
        self.workflow = workflow
        self.data = data
        self.history = plan.new_history(workflow)
        self.events: list[plan.Event] = []

    def add(self, event_type: EventType, step: str = "", is_permanent: bool = False) -> bool:
        """Let an event happen if the log allows it."""
        payload = {"code": "X", "text": "x", "by": "ann", "is_permanent": is_permanent}
        event = plan.Event(len(self.events) + 1, event_type, step, payload, NOW)
        try:
            plan.apply_event(self.history, event)
        except IllegalEvent:
            return False
        self.events.append(event)
        return True

    def move(self) -> None:
        """Do the next move with a drawn end, as a worker would; sometimes somebody wishes."""
        if self.data.draw(st.integers(0, 5)) == 0:
            self.add(self.data.draw(st.sampled_from(WISHES)))
        move = plan.next_move(self.history)
        if isinstance(move, plan.Finish):
            return
        name = move.step.name
        if isinstance(move, plan.Undo):
            assert self.add(EventType.UNDO_STARTED, name)
            assert self.add(EventType(self.data.draw(st.sampled_from(UNDO_ENDS))), name)
            return
        if not move.is_resumed:
            assert self.add(EventType.STARTED, name)
        end = self.data.draw(st.sampled_from(FORWARD_ENDS))
        if end == "permanent":
            assert self.add(EventType.FAILED, name, is_permanent=True)
        elif end == "worker_lost":
            self.add(EventType.WORKER_LOST, name)
        else:
            assert self.add(EventType(end), name)


@settings(max_examples=150, deadline=None)
@given(workflow=workflows(), data=st.data())
def test_a_job_keeps_its_promises_whatever_happens(workflow: Workflow, data: st.DataObject) -> None:
    walk = Walk(workflow, data)
    for _ in range(40):
        if plan.state_of(walk.history) in (JobState.SUCCEEDED, JobState.FAILED):
            break
        walk.move()
        _check_promises(walk)


def _check_promises(walk: Walk) -> None:
    history = walk.history
    assert plan.replay(walk.workflow, walk.events) == history
    state = plan.state_of(history)
    states = {step.step.name: step.state for step in history.steps.values()}
    if state == JobState.SUCCEEDED:
        assert set(states.values()) == {StepState.SUCCEEDED}
    if state == JobState.FAILED and not history.is_closed:
        assert history.left_over == []
        assert history.error_code
    if state == JobState.NEEDS_ATTENTION:
        assert plan.current_step(history) is not None
    if any(step.step.irreversible and step.output is not None for step in history.steps.values()):
        assert not history.is_unwinding
    if state not in TERMINAL:
        running = [name for name, word in states.items() if word in ("running", "undoing")]
        assert running == []
