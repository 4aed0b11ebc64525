"""The snapshot workflow: the generic five, with a real agent and a real store."""

import uuid
from collections.abc import Callable, Iterator

import pytest

from console.jobs.acts import start_job
from console.jobs.models import Job
from console.jobs.testing import log_of, run_until_done
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points import hooks
from protected_machines.points.workflow import SnapshotParams, snapshot
from tests.console.jobs.generic_five import GenericFive, WorkflowCase
from tests.places.agent import RunningAgent

pytestmark = pytest.mark.django_db


@pytest.fixture
def told() -> Iterator[list[uuid.UUID]]:
    """The points that a registered hook was told of; other hooks are put aside meanwhile."""
    points: list[uuid.UUID] = []

    def tell(machine: Machine, point: RecoveryPoint) -> None:
        points.append(point.pk)

    before = list(hooks._hooks)
    hooks._hooks[:] = [tell]
    yield points
    hooks._hooks[:] = before


def start(machine: Machine) -> Job:
    return start_job("snapshot", machine.pk, machine.name, SnapshotParams())


@pytest.fixture
def case(machine: Machine, files: Callable[[], set[str]], told: list[uuid.UUID]) -> WorkflowCase:
    def check_success(job: Job) -> None:
        (point,) = RecoveryPoint.objects.all()
        assert job.steps.get(name="reserve_point").output == {"point_id": str(point.pk)}
        assert set(told) == {point.pk}
        assert len(files()) == 3

    return WorkflowCase(
        start=lambda: start(machine),
        world=lambda: (files(), set(RecoveryPoint.objects.values_list("pk", flat=True))),
        check_success=check_success,
    )


class TestSnapshot(GenericFive):
    workflow = snapshot
    copying_steps = ("take_point",)


def test_a_second_snapshot_of_the_same_machine_has_to_wait(machine: Machine) -> None:
    from console.jobs.errors import JobConflict

    start(machine)
    with pytest.raises(JobConflict, match="cannot start: Snapshot of the same machine is waiting"):
        start(machine)


def test_a_failed_snapshot_says_why_by_its_code(machine: Machine, agent: RunningAgent) -> None:
    agent.kill()
    job = run_until_done(start(machine))
    assert job.error_code == "AGENT-UNREACHABLE", log_of(job)
    assert "Check that the machine" in job.error_text


def test_a_base_image_nobody_asked_for_is_explained_on_the_job(
    machine: Machine, told: list[uuid.UUID]
) -> None:
    job = run_until_done(start(machine))
    note = "Taking a base image: it is the machine's first recovery point."
    assert job.steps.get(name="take_point").note == note
