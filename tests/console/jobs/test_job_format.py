"""How a job is put into words and figures."""

import datetime
from uuid import uuid4

import pytest
from django.utils import timezone

from console.jobs.choices import JobState
from console.jobs.models import Job
from console.jobs.templatetags.job_format import (
    STALE_RATE_SECONDS,
    job_rate_bps,
    job_seconds_left,
    job_state_text,
    job_tone,
)


def make_job(**changes: object) -> Job:
    """Return a running job that is not saved; it copied a quarter of 400 bytes, 10 a second."""
    values: dict[str, object] = {
        "subject_id": uuid4(),
        "state": JobState.RUNNING,
        "done_bytes": 100,
        "total_bytes": 400,
        "rate_bps": 10,
        "progress_at": timezone.now(),
    }
    return Job(**{**values, **changes})


def test_the_time_left_follows_from_the_recent_rate() -> None:
    assert job_rate_bps(make_job()) == 10
    assert job_seconds_left(make_job()) == 30
    assert job_seconds_left(make_job(done_bytes=500)) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"progress_at": timezone.now() - datetime.timedelta(seconds=STALE_RATE_SECONDS + 5)},
        {"progress_at": None},
        {"rate_bps": None},
        {"state": JobState.SUCCEEDED},
    ],
)
def test_a_rate_of_long_ago_says_nothing(changes: dict[str, object]) -> None:
    job = make_job(**changes)
    assert job_rate_bps(job) is None
    assert job_seconds_left(job) is None


def test_without_a_total_nobody_knows_how_long_it_takes() -> None:
    assert job_seconds_left(make_job(total_bytes=None)) is None


@pytest.mark.parametrize(
    ("changes", "text", "tone"),
    [
        ({"state": JobState.UNWINDING}, "Undoing", "warn"),
        ({"state": JobState.FAILED}, "Failed", "bad"),
        ({"state": JobState.FAILED, "is_cancel_requested": True}, "Cancelled", "off"),
        ({"is_cancel_requested": True}, "Cancelling", "busy"),
        ({"state": JobState.UNWINDING, "is_cancel_requested": True}, "Undoing", "warn"),
    ],
)
def test_a_state_has_a_word_and_a_tone(changes: dict[str, object], text: str, tone: str) -> None:
    job = make_job(**changes)
    assert (job_state_text(job), job_tone(job)) == (text, tone)
