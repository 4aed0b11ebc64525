"""The five tests that every workflow passes, parametrised over its steps.

A room writes a class and a fixture, and gets all of them:

    class TestExport(GenericFive):
        workflow = EXPORT

    @pytest.fixture
    def case(db, store, vcenter) -> WorkflowCase:
        machine = make_machine()
        return WorkflowCase(
            start=lambda: start_job("export", machine.id, machine.name, Params(...)),
            world=lambda: (rows_of(machine), files_of(store), inventory_of(vcenter)),
            check_success=lambda job: ...,
        )

`world` leaves out jobs and clocks; what it returns is compared with `==`.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from console.jobs.acts import retry_job
from console.jobs.choices import EventType, JobState, UndoKind
from console.jobs.models import Job
from console.jobs.testing import (
    FAULT,
    crash_after,
    crash_before,
    fail_at,
    log_of,
    run_twice,
    run_until_done,
)
from console.jobs.workflow import Workflow


@dataclass
class WorkflowCase:
    """A world in which one job of the workflow can be started and will succeed."""

    start: Callable[[], Job]
    world: Callable[[], Any]
    check_success: Callable[[Job], None] = lambda job: None
    limit_seconds: float = 120

    def finish(self, job: Job) -> Job:
        return run_until_done(job, limit_seconds=self.limit_seconds)

    def assert_succeeded(self, job: Job) -> None:
        assert job.state == JobState.SUCCEEDED, log_of(job)
        self.check_success(job)


def steps_that_unwind(workflow: Workflow) -> list[str]:
    """Return the steps before the point of no return."""
    names = []
    for step in workflow.steps:
        if step.irreversible:
            break
        names.append(step.name)
    return names


def undos_within_reach(workflow: Workflow) -> list[str]:
    """Return the steps that are rolled back when the last step that unwinds fails."""
    reach = steps_that_unwind(workflow)[:-1]
    return [name for name in reach if workflow.step(name).undo_kind == UndoKind.UNDO]


class GenericFive:
    """Sub-class it with `workflow`, beside a fixture `case`."""

    workflow: Workflow

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        steps = [step.name for step in self.workflow.steps]
        unwinding = steps_that_unwind(self.workflow)
        values = {
            "early_step": unwinding,
            "late_step": [name for name in steps if name not in unwinding],
            "undone_step": undos_within_reach(self.workflow),
            "step": steps,
        }
        for name, choices in values.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, choices)

    def test_it_succeeds(self, case: WorkflowCase) -> None:
        case.assert_succeeded(case.finish(case.start()))

    def test_each_step_may_run_twice(self, case: WorkflowCase) -> None:
        job = case.start()
        with run_twice():
            case.finish(job)
        case.assert_succeeded(job)

    def test_each_undo_may_run_twice(self, case: WorkflowCase, undone_step: str) -> None:
        before = case.world()
        job = case.start()
        with run_twice(), fail_at(steps_that_unwind(self.workflow)[-1]):
            case.finish(job)
        assert job.state == JobState.FAILED, log_of(job)
        assert job.steps.get(name=undone_step).state == "undone"
        assert case.world() == before

    def test_failure_leaves_the_world_as_it_was(self, case: WorkflowCase, early_step: str) -> None:
        before = case.world()
        job = case.start()
        with fail_at(early_step):
            case.finish(job)
        assert job.state == JobState.FAILED, log_of(job)
        assert job.error_code == FAULT
        assert case.world() == before

    def test_failure_past_the_point_of_no_return_goes_on_by_retry(
        self, case: WorkflowCase, late_step: str
    ) -> None:
        job = case.start()
        with fail_at(late_step):
            case.finish(job)
        assert job.state == JobState.NEEDS_ATTENTION, log_of(job)
        assert job.steps.get(name=late_step).attempt > 1
        case.assert_succeeded(case.finish(retry_job(job, None)))

    @pytest.mark.parametrize("moment", ["after started", "before succeeded", "after succeeded"])
    def test_a_crash_changes_nothing_in_the_end(
        self, case: WorkflowCase, step: str, moment: str
    ) -> None:
        job = case.start()
        with _crash(moment, step):
            case.finish(job)
        case.assert_succeeded(job)

    @pytest.mark.parametrize(
        "moment", ["after undo_started", "before undo_finished", "after undo_finished"]
    )
    def test_a_crash_while_rolling_back_leaves_the_world_as_it_was(
        self, case: WorkflowCase, undone_step: str, moment: str
    ) -> None:
        before = case.world()
        job = case.start()
        with fail_at(steps_that_unwind(self.workflow)[-1]), _crash(moment, undone_step):
            case.finish(job)
        assert job.state == JobState.FAILED, log_of(job)
        assert case.world() == before

    def test_a_failed_undo_needs_attention_and_shows(
        self, case: WorkflowCase, undone_step: str, admin_client: Client
    ) -> None:
        before = case.world()
        job = case.start()
        failing = steps_that_unwind(self.workflow)[-1]
        with fail_at(failing), fail_at(undone_step, is_undo=True):
            case.finish(job)
        assert job.state == JobState.NEEDS_ATTENTION, log_of(job)
        page = admin_client.get(reverse("jobs:job", args=[job.id])).content.decode()
        assert "Needs attention" in page
        assert f"A fault was brought into {undone_step}." in page
        case.finish(retry_job(job, None))
        assert job.state == JobState.FAILED, log_of(job)
        assert case.world() == before


def _crash(moment: str, step: str) -> contextlib.AbstractContextManager[None]:
    when, event = moment.split(" ")
    crash = crash_after if when == "after" else crash_before
    return crash(EventType(event), step)
