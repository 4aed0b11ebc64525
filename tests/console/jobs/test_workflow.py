"""How a workflow is declared, and how its parameters travel."""

import dataclasses
import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from console.jobs.params import params_from_json, params_to_json
from console.jobs.workflow import Step, UnknownWorkflow, Workflow, newest_workflow, register
from tests.console.jobs.demo import DEMO


def nothing(context: object) -> None:
    return None


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
    with pytest.raises(TypeError, match="ids and choices"):
        params_to_json(dataclasses.replace(_empty(), names=object()))


def _empty() -> Params:
    return Params(uuid4(), None, ())


@pytest.mark.parametrize(
    "ways",
    [
        {},
        {"undo": nothing, "nothing_to_undo": "why"},
        {"irreversible": "why", "nothing_to_undo": "why"},
    ],
)
def test_a_step_says_exactly_one_thing_about_its_undo(ways: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give one of"):
        Step("one", "One", nothing, limit_seconds=1, **ways)


def test_the_point_of_no_return_is_the_first_irreversible_step() -> None:
    assert DEMO.point_of_no_return is DEMO.step("send")


def test_the_newest_version_is_started_and_old_ones_stay_known() -> None:
    def version(number: int) -> Workflow:
        step = Step(f"one_{number}", "One", nothing, undo=nothing, limit_seconds=1)
        return Workflow(kind="versioned", version=number, title="V", params=Params, steps=(step,))

    register(version(1))
    newest = register(version(2))
    assert newest_workflow("versioned") is newest
    with pytest.raises(ValueError, match="registered twice"):
        register(dataclasses.replace(version(2), steps=version(3).steps))


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(UnknownWorkflow, match="no-such-kind"):
        newest_workflow("no-such-kind")
