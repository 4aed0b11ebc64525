"""The tests that every workflow passes, free of charge.

A room writes a class and a fixture, and gets all of them:

    class TestExport(GenericFive):
        workflow = EXPORT
        copying_steps = ("import_vm",)

    @pytest.fixture
    def case(db, store, vcenter) -> WorkflowCase:
        machine = make_machine()
        return WorkflowCase(
            start=lambda: start_job("export", machine.id, machine.name, Params(...)),
            world=lambda: (rows_of(machine), files_of(store), inventory_of(vcenter)),
            check_success=lambda job: ...,
        )

`world` leaves out jobs and clocks, and holds whatever the workflow's steps touch; what it returns
is compared with `==`. A fault is injected into all steps in one run where that is possible. A
failure
ends the run, so here only the last step that unwinds fails. One run for each step is left to
`make test-all`.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from django.test import Client
from django.urls import reverse

from console.jobs import engine, generation, rescue
from console.jobs.acts import retry_job
from console.jobs.choices import EventType, JobState, StepState, UndoKind
from console.jobs.models import Job
from console.jobs.testing import (
    FAULT,
    cancel_after,
    cancel_midway,
    crash_after,
    crash_before,
    fail_at,
    log_of,
    restore_points,
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
    """Return the steps that are undone when the last step that unwinds fails."""
    reach = steps_that_unwind(workflow)[:-1]
    return [name for name in reach if workflow.step(name).undo_kind == UndoKind.UNDO]


class GenericFive:
    """Sub-class it with `workflow`, beside a fixture `case`.

    `copying_steps` are the steps before the point of no return that always report bytes.
    """

    workflow: ClassVar[Workflow]
    copying_steps: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Leave out the tests of what this workflow has none of."""
        unwinding = steps_that_unwind(cls.workflow)
        tests_of = {
            "undo": undos_within_reach(cls.workflow),
            "early": unwinding,
            "late": cls.workflow.steps[len(unwinding) :],
            "midway": cls.copying_steps,
        }
        for name in dir(GenericFive):
            for word, steps in tests_of.items():
                if name.startswith("test_") and word in name.split("_") and not steps:
                    setattr(cls, name, None)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        choices = {
            "early_step": steps_that_unwind(self.workflow),
            "one_step": self.steps,
            "one_undo": undos_within_reach(self.workflow),
            "copying_step": self.copying_steps,
        }
        for name, steps in choices.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, steps)

    @property
    def steps(self) -> list[str]:
        return [step.name for step in self.workflow.steps]

    def test_it_succeeds(self, case: WorkflowCase) -> None:
        job = case.finish(case.start())
        case.assert_succeeded(job)
        early = steps_that_unwind(self.workflow)
        copying = {step.name for step in job.steps.filter(done_bytes__gt=0, name__in=early)}
        assert bool(copying) == bool(self.copying_steps)
        assert copying >= set(self.copying_steps)

    @pytest.mark.unmeasured
    def test_each_step_may_run_twice(self, case: WorkflowCase) -> None:
        job = case.start()
        with run_twice():
            case.finish(job)
        case.assert_succeeded(job)

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("moment", ["after started", "before succeeded", "after succeeded"])
    def test_a_crash_in_each_step_changes_nothing_in_the_end(
        self, case: WorkflowCase, moment: str
    ) -> None:
        job = case.start()
        with _crash(moment, *self.steps):
            case.finish(job)
        case.assert_succeeded(job)

    @pytest.mark.unmeasured
    @pytest.mark.full
    @pytest.mark.parametrize("moment", ["after started", "before succeeded", "after succeeded"])
    def test_a_crash_in_one_step_changes_nothing_in_the_end(
        self, case: WorkflowCase, moment: str, one_step: str
    ) -> None:
        job = case.start()
        with _crash(moment, one_step):
            case.finish(job)
        case.assert_succeeded(job)

    # That a failure undoes everything is also judged by the failed undos, which begin with one.
    @pytest.mark.full
    @pytest.mark.unmeasured
    def test_an_early_failure_leaves_the_world_as_it_was(
        self, case: WorkflowCase, early_step: str
    ) -> None:
        before = case.world()
        job = case.start()
        with fail_at(early_step):
            case.finish(job)
        assert job.state == JobState.FAILED, log_of(job)
        assert job.error_code == FAULT
        assert case.world() == before

    @pytest.mark.unmeasured
    def test_a_cancel_after_the_last_early_effect_leaves_the_world_as_it_was(
        self, case: WorkflowCase
    ) -> None:
        self._cancel_after(case, steps_that_unwind(self.workflow)[-1])

    @pytest.mark.unmeasured
    @pytest.mark.full
    def test_a_cancel_after_an_early_effect_leaves_the_world_as_it_was(
        self, case: WorkflowCase, early_step: str
    ) -> None:
        self._cancel_after(case, early_step)

    def _cancel_after(self, case: WorkflowCase, step: str) -> None:
        before = case.world()
        job = case.start()
        with cancel_after(job, step):
            case.finish(job)
        self._assert_cancelled(case, job, step)
        if job.is_cancelled:
            assert case.world() == before

    @pytest.mark.unmeasured
    def test_a_cancel_midway_leaves_the_world_as_it_was(
        self, case: WorkflowCase, copying_step: str
    ) -> None:
        before = case.world()
        job = case.start()
        with cancel_midway(job, copying_step):
            case.finish(job)
        self._assert_cancelled(case, job, copying_step)
        if job.is_cancelled:
            assert case.world() == before

    def _assert_cancelled(self, case: WorkflowCase, job: Job, step: str) -> None:
        """A cancel comes too late only when the very last step of all ends well."""
        if step == self.steps[-1] and job.state == JobState.SUCCEEDED:
            case.assert_succeeded(job)
        else:
            assert job.is_cancelled, log_of(job)

    def test_late_failures_need_attention_and_go_on_by_retry(self, case: WorkflowCase) -> None:
        late = self.steps[len(steps_that_unwind(self.workflow)) :]
        job = case.start()
        for step in late:
            with fail_at(step):
                case.finish(job)
            assert (job.state, job.current_step) == (JobState.NEEDS_ATTENTION, step), log_of(job)
            assert job.steps.get(name=step).attempt > 1
            retry_job(job, None)
        case.assert_succeeded(case.finish(job))

    @pytest.mark.unmeasured
    def test_each_undo_may_run_twice(self, case: WorkflowCase) -> None:
        before = case.world()
        job = case.start()
        with run_twice(), fail_at(steps_that_unwind(self.workflow)[-1]):
            case.finish(job)
        self._assert_undone(case, job, before)

    @pytest.mark.unmeasured
    @pytest.mark.parametrize(
        "moment", ["after undo_started", "before undo_finished", "after undo_finished"]
    )
    def test_a_crash_in_each_undo_leaves_the_world_as_it_was(
        self, case: WorkflowCase, moment: str
    ) -> None:
        before = case.world()
        job = case.start()
        undone = undos_within_reach(self.workflow)
        with fail_at(steps_that_unwind(self.workflow)[-1]), _crash(moment, *undone):
            case.finish(job)
        self._assert_undone(case, job, before)

    @pytest.mark.unmeasured
    @pytest.mark.full
    @pytest.mark.parametrize(
        "moment", ["after undo_started", "before undo_finished", "after undo_finished"]
    )
    def test_a_crash_in_one_undo_leaves_the_world_as_it_was(
        self, case: WorkflowCase, moment: str, one_undo: str
    ) -> None:
        before = case.world()
        job = case.start()
        with fail_at(steps_that_unwind(self.workflow)[-1]), _crash(moment, one_undo):
            case.finish(job)
        self._assert_undone(case, job, before)

    def test_a_failed_undo_needs_attention_and_shows(
        self, case: WorkflowCase, admin_client: Client
    ) -> None:
        """Each undo fails in its turn, and goes on once a person retries."""
        before = case.world()
        job = case.start()
        with fail_at(steps_that_unwind(self.workflow)[-1]):
            for step in reversed(undos_within_reach(self.workflow)):
                with fail_at(step, is_undo=True):
                    case.finish(job)
                assert job.state == JobState.NEEDS_ATTENTION, log_of(job)
                page = admin_client.get(reverse("jobs:job", args=[job.id])).content.decode()
                assert "Needs attention" in page
                assert f"A fault was injected into {step}." in page
                retry_job(job, None)
            case.finish(job)
        self._assert_undone(case, job, before)

    @pytest.mark.unmeasured
    def test_a_restored_database_touches_nothing_until_it_is_released(
        self, case: WorkflowCase
    ) -> None:
        """The database goes back to before each step began; the world stays as it is now."""
        job = case.start()
        with restore_points(EventType.STARTED) as restores:
            case.finish(job)
        case.assert_succeeded(job)
        generation.write(generation.number_of_database())
        assert len(restores) >= len(self.steps)
        for restore in reversed(restores):
            restore()
            before = case.world()
            for _ in range(2):
                rescue.rescue_stale_jobs()
                engine.run_job(job.id, send=lambda *_: True)
            job.refresh_from_db()
            assert job.state == JobState.HELD, log_of(job)
            assert case.world() == before

    def _assert_undone(self, case: WorkflowCase, job: Job, before: Any) -> None:
        assert job.state == JobState.FAILED, log_of(job)
        undone = job.steps.filter(state=StepState.UNDONE)
        assert [step.name for step in undone] == undos_within_reach(self.workflow)
        assert case.world() == before


def _crash(moment: str, *steps: str) -> contextlib.AbstractContextManager[None]:
    when, event = moment.split(" ")
    crash = crash_after if when == "after" else crash_before
    return crash(EventType(event), *steps)
