"""The outcome of one machine's failback while its commit or its roll back runs."""

import pytest

from console.jobs.choices import JobState
from console.jobs.models import Job
from replication.choices import FailbackOutcome, FailbackState
from replication.failback.progress import MachineFailback
from replication.models import FailbackMachine


@pytest.mark.parametrize(
    ("kind", "job_state", "expected"),
    [
        ("failback_commit", JobState.RUNNING, FailbackOutcome.COMMITTING),
        ("failback_commit", JobState.NEEDS_ATTENTION, FailbackOutcome.NEEDS_ATTENTION),
        ("failback_commit", JobState.FAILED, FailbackOutcome.FAILED_BACK),
        ("failback_roll_back", JobState.QUEUED, FailbackOutcome.ROLLING_BACK),
        ("failback_roll_back", JobState.RUNNING, FailbackOutcome.ROLLING_BACK),
        ("failback_roll_back", JobState.UNWINDING, FailbackOutcome.UNWINDING),
        ("failback_roll_back", JobState.SUCCEEDED, FailbackOutcome.ROLLED_BACK),
        ("failback_roll_back", JobState.FAILED, FailbackOutcome.FAILED_BACK),
    ],
)
def test_the_outcome_follows_the_job_that_ends_it(
    kind: str, job_state: JobState, expected: FailbackOutcome
) -> None:
    entry = FailbackMachine(state=FailbackState.FAILED_BACK)
    failback = Job(kind="failback", state=JobState.SUCCEEDED)
    end_job = Job(kind=kind, state=job_state)

    assert MachineFailback(entry, failback, end_job, attempts=2).outcome == expected
