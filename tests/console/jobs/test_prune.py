"""Jobs of long ago are forgotten, but not what a person may still need."""

import datetime
from pathlib import Path
from uuid import uuid4

import pytest
from django.utils import timezone

from console.jobs.models import Job, JobEvent
from console.jobs.prune import prune_jobs
from console.jobs.testing import fail_at, run_until_done
from tests.console.jobs.demo import start_demo

pytestmark = pytest.mark.django_db


def in_days(days: int) -> datetime.datetime:
    return timezone.now() + datetime.timedelta(days=days)


def test_a_routine_job_is_forgotten_with_its_events_after_a_month(tmp_path: Path) -> None:
    run_until_done(start_demo(tmp_path))
    assert prune_jobs(in_days(29)) == 0
    assert prune_jobs(in_days(31)) == 1
    assert not JobEvent.objects.exists()


def test_jobs_of_a_group_and_failed_ones_stay_for_a_year(tmp_path: Path) -> None:
    run_until_done(start_demo(tmp_path, group_id=uuid4()))
    with fail_at("copy"):
        run_until_done(start_demo(tmp_path))
    assert prune_jobs(in_days(300)) == 0
    assert prune_jobs(in_days(366)) == 2


def test_open_jobs_and_those_in_trouble_stay(tmp_path: Path) -> None:
    start_demo(tmp_path)
    with fail_at("thank"):
        run_until_done(start_demo(tmp_path))
    assert prune_jobs(in_days(10_000)) == 0
    assert Job.objects.count() == 2
