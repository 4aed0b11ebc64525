"""What is old by a clock that was just set is not deleted."""

import datetime
import uuid
from pathlib import Path

import pytest
from django.utils import timezone

from console.jobs.choices import JobState
from console.jobs.models import Job
from console.jobs.tasks import prune_jobs
from console.steady import STEADY_AFTER_SECONDS, ClockRecord, follow, look_at_clock
from tests.clocks import Clock, stepped
from tests.factories import NOON

KNOWN = ClockRecord("boot", NOON, 10_000, 1_000)
HOUR = datetime.timedelta(hours=1)


def test_a_clock_that_was_left_alone_stays_steady() -> None:
    assert KNOWN.is_steady
    # By time servers, a little at a time.
    later = follow(KNOWN, "boot", 13_600, NOON + HOUR + datetime.timedelta(seconds=20))
    assert later.is_steady
    assert later.set_at is None


@stepped
def test_a_clock_that_was_set_is_not_steady_for_a_while(step: datetime.timedelta) -> None:
    later = follow(KNOWN, "boot", 13_600, NOON + HOUR + step)
    assert not later.is_steady
    assert later.set_at == NOON + HOUR + step
    again = follow(later, "boot", 13_600 + STEADY_AFTER_SECONDS, later.seen_at + HOUR / 2)
    assert again.is_steady
    assert again.set_at == later.set_at


def test_after_a_start_the_clock_may_be_wrong() -> None:
    assert not follow(KNOWN, "another boot", 60, NOON + HOUR).is_steady
    assert follow(KNOWN, "another boot", 60, NOON + HOUR).set_at is None
    # Time does not run backwards while a computer is off.
    assert follow(KNOWN, "another boot", 60, NOON - HOUR).set_at == NOON - HOUR
    assert not follow(None, "boot", 10_000, NOON).is_steady


@pytest.mark.parametrize("content", ["", "{", "[]", '{"boot_id": 7}', '{"seen_at": "noon"}'])
def test_a_file_that_was_cut_off_is_as_good_as_none(
    core_home: Path, content: str, clock: Clock
) -> None:
    (core_home / "clock").write_text(content)
    assert not look_at_clock().is_steady
    clock.pass_time(STEADY_AFTER_SECONDS)
    assert look_at_clock().is_steady


@pytest.mark.django_db
@stepped
def test_jobs_are_not_forgotten_because_the_clock_was_off(
    core_home: Path, clock: Clock, step: datetime.timedelta
) -> None:
    (core_home / "clock").unlink(missing_ok=True)
    look_at_clock()
    clock.pass_time(STEADY_AFTER_SECONDS)
    job = Job.objects.create(
        kind="snapshot",
        plan_version=1,
        is_exclusive=True,
        subject_id=uuid.uuid4(),
        params={},
        state=JobState.SUCCEEDED,
        finished_at=timezone.now(),
    )
    for change in (lambda: clock.step(step), clock.put_right):
        change()
        for _ in range(2):
            prune_jobs()
            clock.pass_time(STEADY_AFTER_SECONDS / 3)
        assert Job.objects.filter(pk=job.pk).exists()
    clock.pass_time(31 * 86_400)
    prune_jobs()
    assert not Job.objects.filter(pk=job.pk).exists()
