"""The state of a replicated machine while a job of its failback runs."""

import uuid

import pytest

from console.jobs.choices import JobState
from console.jobs.models import Job
from protected_machines.models import Machine
from replication.choices import Direction, MachineState
from replication.models import Pairing, ReplicatedMachine
from replication.pages.states import MACHINE_TONES, machine_state


def state_during(job: Job) -> MachineState:
    core_id = uuid.uuid4()
    replicated = ReplicatedMachine(
        machine=Machine(owner_core_id=core_id), pairing=Pairing(direction=Direction.INCOMING)
    )
    return machine_state(replicated, job, str(core_id))


@pytest.mark.parametrize(
    ("kind", "job_state", "step", "expected"),
    [
        ("failback", JobState.QUEUED, "", MachineState.PENDING_FAILBACK),
        ("failback", JobState.RUNNING, "send_points", MachineState.PENDING_FAILBACK),
        ("failback", JobState.RUNNING, "restore_disks", MachineState.RESTORING),
        ("failback", JobState.UNWINDING, "restore_disks", MachineState.UNDOING),
        ("failback", JobState.NEEDS_ATTENTION, "replicate_again", MachineState.NEEDS_ATTENTION),
        ("failback_commit", JobState.RUNNING, "remove_vm", MachineState.FAILED_BACK),
        ("failback_roll_back", JobState.RUNNING, "power_on_vm", MachineState.ROLLING_BACK),
        ("failback_roll_back", JobState.UNWINDING, "power_on_vm", MachineState.UNDOING),
    ],
)
def test_the_state_follows_the_job(
    kind: str, job_state: JobState, step: str, expected: MachineState
) -> None:
    assert state_during(Job(kind=kind, state=job_state, current_step=step)) == expected


def test_every_state_has_a_tone() -> None:
    assert set(MACHINE_TONES) == set(MachineState)
