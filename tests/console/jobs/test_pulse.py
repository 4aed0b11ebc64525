"""A worker's signs of life: the lease is renewed, a lost one is noticed, progress is saved."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from console.jobs import engine
from console.jobs.choices import EventType, JobState, StepState
from console.jobs.doors import doors
from console.jobs.models import Job
from console.jobs.pulse import Progress, Pulse
from console.jobs.testing import log_of, run_until_done
from console.jobs.workflow import Step, StepAction
from tests.console.jobs.demo import start_demo
from tests.places.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def send_nothing(job: Job, delay_seconds: float) -> bool:
    return True


def run_once(job: Job) -> None:
    assert engine.run_job(job.id, send=send_nothing)
    job.refresh_from_db()


@contextlib.contextmanager
def at_first_slice(act: Callable[[Any], object]) -> Iterator[None]:
    """Have something happen as the step that copies begins."""

    def call(running: Step, action: StepAction, context: Any, undo: bool) -> Any:
        if running.name == "copy":
            act(context)
        return previous(running, action, context, undo)

    previous = doors.call
    doors.call = call
    try:
        yield
    finally:
        doors.call = previous


def test_a_lease_is_renewed_and_progress_saved_while_a_step_runs(
    tmp_path: Path, settings: Settings
) -> None:
    settings.UNDERSTUDY_JOB_LEASE_SECONDS = 8
    job = start_demo(tmp_path, slices=4, seconds_per_slice=1)
    seen: list[tuple[Any, int]] = []

    def watch() -> None:
        try:
            while worker.is_alive():
                seen.append(Job.objects.values_list("lease_until", "done_bytes").get(id=job.id))
                threading.Event().wait(0.2)
        finally:
            connection.close()

    worker = threading.Thread(target=lambda: (run_once(job), connection.close()))
    watcher = threading.Thread(target=watch)
    worker.start()
    watcher.start()
    worker.join()
    watcher.join()
    assert job.state == JobState.SUCCEEDED, log_of(job)
    leases = [lease_until for lease_until, _ in seen if lease_until]
    assert leases[-1] > leases[0]
    assert max(done_bytes for _, done_bytes in seen) >= 1 << 20


def test_a_worker_whose_lease_was_not_renewed_in_time_stops_and_cleans_nothing_up(
    tmp_path: Path,
) -> None:
    def end_lease(context: Any) -> None:
        context._pulse.lease_seconds = 0

    job = start_demo(tmp_path, slices=1000, seconds_per_slice=0.01)
    with at_first_slice(end_lease):
        run_once(job)
    assert job.state == JobState.RUNNING
    assert job.steps.get(name="copy").state == StepState.RUNNING
    content = tmp_path / f"parcel-{job.id}" / "content"
    assert content.stat().st_size < 1000
    run_until_done(job)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert job.events.filter(type=EventType.WORKER_LOST, step="copy").count() == 1
    assert content.stat().st_size == 1000


def test_a_lease_that_is_over_is_not_renewed(tmp_path: Path) -> None:
    job, now = start_demo(tmp_path), timezone.now()
    assert Job.objects.claim(job.id, "me", now, 60)
    with Pulse(job.id, "me", 0.1, timezone.now) as pulse:
        wait_until(lambda: pulse.is_lost, "the end of the lease")
        pulse.report(1 << 20, None)
        pulse.begin_step("copy")
        pulse._tick()
    job.refresh_from_db()
    assert job.lease_until is not None
    assert (job.lease_until - now).total_seconds() == 60


def test_a_worker_that_was_replaced_stops_and_writes_nothing(tmp_path: Path) -> None:
    job = start_demo(tmp_path, slices=1000, seconds_per_slice=0.05)
    with at_first_slice(lambda _: Job.objects.filter(id=job.id).update(lease_owner="another")):
        run_once(job)
    assert (job.state, job.lease_owner) == (JobState.RUNNING, "another")
    assert job.events.last().type == EventType.STARTED
    assert (tmp_path / f"parcel-{job.id}" / "content").exists()


def test_a_database_that_is_away_for_a_moment_does_not_end_the_pulse(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = start_demo(tmp_path)
    assert Job.objects.claim(job.id, "me", timezone.now(), 60)
    caplog.set_level(logging.WARNING, "console.jobs.pulse")
    with Pulse(job.id, "me", 60, timezone.now) as pulse:
        rename("jobs_job", "jobs_job_away")
        try:
            wait_until(lambda: "pulse missed" in caplog.text, "a tick without a database")
        finally:
            rename("jobs_job_away", "jobs_job")
        Job.objects.filter(id=job.id).update(is_cancel_requested=True)
        wait_until(lambda: pulse.is_cancel_requested, "the next tick")
    assert not pulse.is_lost


def rename(table: str, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")


def test_progress_never_goes_backwards_and_its_rate_is_recent() -> None:
    progress = Progress()
    progress.report(0, 1000, at_seconds=0)
    progress.report(100, None, at_seconds=10)
    progress.report(40, None, at_seconds=11)
    assert (progress.done_bytes, progress.total_bytes) == (100, 1000)
    progress.report(500, None, at_seconds=20)
    progress.report(1000, None, at_seconds=25)
    assert progress.rate_bps == (1000 - 100) // 15
