"""How a workflow is declared, and how its parameters travel."""

import dataclasses
import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from console.jobs.params import params_from_json, params_to_json
from console.jobs.workflow import (
    Step,
    Steps,
    UnknownWorkflow,
    Workflow,
    find_workflow,
    newest_workflow,
    step,
    workflow,
)
from tests.console.jobs.demo import demo


def nothing(context: object) -> None:
    return None


def listed(*steps: Step, **changes: Any) -> Workflow:
    """Return a workflow that is not registered."""
    values: dict[str, Any] = {"kind": "listed", "title": "L", "params": Params, **changes}
    return Workflow(list_steps=lambda: steps, **values)


@dataclasses.dataclass(frozen=True)
class Disk:
    number: int
    point_id: UUID


@dataclasses.dataclass(frozen=True)
class Params:
    machine_id: UUID
    due_at: datetime.datetime | None
    disks: tuple[Disk, ...]
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    cpus: int | None = None


def test_params_come_back_as_they_were() -> None:
    params = Params(
        machine_id=uuid4(),
        due_at=datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC),
        disks=(Disk(0, uuid4()), Disk(1, uuid4())),
        names={"a": "b"},
    )
    assert params_from_json(Params, params_to_json(params)) == params


def test_params_take_no_rows() -> None:
    with pytest.raises(TypeError, match="IDs and choices"):
        params_to_json(dataclasses.replace(_empty(), names=object()))


def _empty() -> Params:
    return Params(uuid4(), None, ())


@pytest.mark.parametrize(
    ("has_undo", "ways"),
    [
        (False, {}),
        (True, {"nothing_to_undo": "why"}),
        (True, {"irreversible": "why"}),
        (False, {"irreversible": "why", "nothing_to_undo": "why"}),
    ],
)
def test_a_step_says_exactly_one_thing_about_its_undo(has_undo: bool, ways: dict[str, str]) -> None:
    one = step("One", limit_seconds=1, **ways)(nothing)
    if has_undo:
        one.undo(nothing)
    with pytest.raises(ValueError, match="give one of"):
        listed(one).check()


def test_a_step_has_one_undo() -> None:
    one = step("One", limit_seconds=1)(nothing)
    one.undo(nothing)
    with pytest.raises(ValueError, match="already has an undo"):
        one.undo(nothing)


@pytest.mark.parametrize("numbers", [{"limit_seconds": 0}, {"limit_seconds": 1, "attempts": 0}])
def test_a_step_has_a_limit_and_is_tried(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        step("One", nothing_to_undo="why", **numbers)(nothing)


def test_a_step_is_named_in_lower_case() -> None:
    def Shout(context: object) -> None: ...

    with pytest.raises(ValueError, match="lower-case"):
        step("One", nothing_to_undo="why", limit_seconds=1)(Shout)


def test_a_list_of_steps_is_not_empty_and_names_each_once() -> None:
    one = step("One", nothing_to_undo="why", limit_seconds=1)(nothing)
    for steps in ((), (one, one)):
        with pytest.raises(ValueError, match="unique names"):
            listed(*steps).check()


def test_a_workflow_becomes_exclusive_once() -> None:
    one = step("One", nothing_to_undo="why", limit_seconds=1, makes_exclusive=True)(nothing)
    listed(one, is_exclusive=False).check()
    with pytest.raises(ValueError, match="exclusive from the start"):
        listed(one).check()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [({"queue": "nowhere"}, "no queue"), ({"params": str}, "must be a dataclass")],
)
def test_a_workflow_has_a_queue_and_params(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        listed(**wrong)


def test_the_point_of_no_return_is_the_first_irreversible_step() -> None:
    assert demo.point_of_no_return is demo.step("send")
    assert listed(demo.step("copy")).point_of_no_return is None


def test_steps_may_stand_below_the_list_that_names_them() -> None:
    @workflow(kind="below", title="Below", params=Params)
    def below() -> Steps:
        return (nothing_below,)

    nothing_below = step("One", nothing_to_undo="why", limit_seconds=1)(nothing)
    assert newest_workflow("below") is below
    assert below.outline == ["nothing (nothing)"]


def test_the_newest_version_is_started_and_old_ones_stay_known() -> None:
    def declare(version: int) -> Workflow:
        return workflow(kind="versioned", version=version, title="V", params=Params)(tuple)

    old = declare(1)
    newest = declare(2)
    assert newest_workflow("versioned") is newest
    assert find_workflow("versioned", 1) is old
    with pytest.raises(ValueError, match="registered twice"):
        declare(2)


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(UnknownWorkflow, match="no-such-kind"):
        newest_workflow("no-such-kind")
