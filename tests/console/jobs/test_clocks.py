"""A clock that is set while a job runs neither stops the job, ends it, nor gives it away."""

from datetime import timedelta
from pathlib import Path

import pytest

from console.jobs import engine
from console.jobs.acts import retry_job
from console.jobs.choices import JobState
from console.jobs.doors import doors
from console.jobs.models import Job, in_order
from console.jobs.plan import LONGEST_WAIT_SECONDS
from console.jobs.rescue import LONGEST_RESEND_SECONDS, rescue_stale_jobs
from console.jobs.testing import fail_at, log_of, run_until_done
from console.jobs.wake import lease_seconds
from tests.clocks import Clock, stepped
from tests.console.jobs.demo import start_demo

pytestmark = pytest.mark.django_db


def work(job: Job, clock: Clock) -> bool:
    """Have a worker look at the job; return whether it could take it."""
    taken = engine.run_job(job.id, clock=clock.now, send=lambda _job, _seconds: True)
    job.refresh_from_db()
    return taken


@stepped
@pytest.mark.parametrize("is_put_right", [False, True], ids=["off", "put right"])
def test_a_job_that_waits_is_taken_up_again_within_a_minute(
    tmp_path: Path, clock: Clock, step: timedelta, is_put_right: bool
) -> None:
    if is_put_right:
        clock.step(step)
    job = start_demo(tmp_path, waits=2)
    assert work(job, clock)
    clock.put_right() if is_put_right else clock.step(step)
    clock.pass_time(LONGEST_WAIT_SECONDS)
    assert work(job, clock)
    clock.pass_time(LONGEST_WAIT_SECONDS)
    assert work(job, clock)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert job.seconds is not None
    assert job.seconds >= 0


@stepped
def test_a_wait_still_ends_at_the_limit_of_its_step(
    tmp_path: Path, clock: Clock, step: timedelta
) -> None:
    job = start_demo(tmp_path, waits=10_000)
    assert work(job, clock)
    clock.step(step)
    # It may start again once, when the clock turns out to have been set.
    for _ in range(14):
        clock.pass_time(10)
        work(job, clock)
    assert job.error_code == "JOBS-STEP-TIMED-OUT", log_of(job)


@stepped
@pytest.mark.parametrize("is_put_right", [False, True], ids=["off", "put right"])
def test_the_pause_after_a_failure_stays_short(
    tmp_path: Path, clock: Clock, step: timedelta, is_put_right: bool
) -> None:
    if is_put_right:
        clock.step(step)
    job = start_demo(tmp_path)
    with fail_at("thank", times=1):
        assert work(job, clock)
    assert job.is_open
    clock.put_right() if is_put_right else clock.step(step)
    clock.pass_time(LONGEST_WAIT_SECONDS)
    assert work(job, clock)
    assert job.state == JobState.SUCCEEDED, log_of(job)


@stepped
def test_a_running_step_has_its_time_whatever_the_clock_shows(
    tmp_path: Path, clock: Clock, step: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = doors.call

    def set_clock(*arguments: object) -> object:
        if arguments[0].name == "copy":
            clock.step(step)
        return call(*arguments)

    monkeypatch.setattr(doors, "call", set_clock)
    job = start_demo(tmp_path, slices=2)
    assert work(job, clock)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert all(one.attempt == 1 for one in job.steps.all())


@stepped
@pytest.mark.parametrize("is_put_right", [False, True], ids=["off", "put right"])
def test_a_worker_that_lives_keeps_its_job_and_a_dead_one_loses_it(
    tmp_path: Path, clock: Clock, step: timedelta, is_put_right: bool
) -> None:
    job = start_demo(tmp_path)
    if is_put_right:
        clock.step(step)
    assert Job.objects.claim(job.id, "living", clock.now(), lease_seconds())
    clock.put_right() if is_put_right else clock.step(step)
    # The rescuer runs first; the worker renews its lease within a quarter of it.
    assert rescue_stale_jobs() == 0
    assert not Job.objects.claim(job.id, "rival", clock.now(), lease_seconds())
    clock.pass_time(lease_seconds() / 4)
    assert Job.objects.renew(job.id, "living", clock.now(), lease_seconds())
    clock.pass_time(lease_seconds() - 1)
    assert rescue_stale_jobs() == 0
    # Now it is dead.
    clock.pass_time(2)
    assert rescue_stale_jobs() == 1
    assert Job.objects.claim(job.id, "heir", clock.now(), lease_seconds())


@stepped
@pytest.mark.parametrize("is_put_right", [False, True], ids=["off", "put right"])
def test_a_job_whose_worker_died_as_the_clock_was_set_is_rescued_a_lease_later(
    tmp_path: Path, clock: Clock, step: timedelta, is_put_right: bool
) -> None:
    job = start_demo(tmp_path)
    if is_put_right:
        clock.step(step)
    assert Job.objects.claim(job.id, "dying", clock.now(), lease_seconds())
    clock.put_right() if is_put_right else clock.step(step)
    assert rescue_stale_jobs() == 0
    clock.pass_time(lease_seconds() + 1)
    assert rescue_stale_jobs() == 1
    assert Job.objects.claim(job.id, "heir", clock.now(), lease_seconds())


@stepped
@pytest.mark.parametrize("is_put_right", [False, True], ids=["off", "put right"])
def test_a_wake_up_that_nobody_answered_is_sent_again(
    tmp_path: Path, clock: Clock, step: timedelta, is_put_right: bool
) -> None:
    if is_put_right:
        clock.step(step)
    job = start_demo(tmp_path)
    Job.objects.filter(id=job.id).update(sent_at=clock.now(), send_count=1)
    clock.put_right() if is_put_right else clock.step(step)
    clock.pass_time(LONGEST_RESEND_SECONDS + 60)
    assert rescue_stale_jobs() == 1


def dated(job: Job, clock: Clock) -> Job:
    """The job, created at what the clock shows: the column's default has the real one."""
    job.created_at = clock.now()
    job.save(update_fields=["created_at"])
    return job


@stepped
def test_a_retry_is_the_newest_job_whatever_the_clock_showed(
    tmp_path: Path, clock: Clock, step: timedelta
) -> None:
    jobs = [dated(start_demo(tmp_path), clock)]
    for change in (lambda: clock.step(step), clock.put_right):
        with fail_at("make_box"):
            run_until_done(jobs[-1])
        change()
        jobs.append(dated(retry_job(jobs[-1], None), clock))
    # As they were created, and by the clock of their rows.
    for order in (jobs, list(Job.objects.all())):
        assert [job.id for job in in_order(order)] == [job.id for job in jobs]
    run_until_done(jobs[-1])
    assert [job.id for job in in_order(Job.objects.all())] == [job.id for job in jobs]


@stepped
def test_nothing_comes_after_what_succeeded(tmp_path: Path, clock: Clock, step: timedelta) -> None:
    clock.step(step)
    with fail_at("make_box"):
        first = run_until_done(dated(start_demo(tmp_path), clock))
    clock.put_right()
    second = run_until_done(dated(start_demo(tmp_path), clock))
    assert in_order(Job.objects.all()) == [first, second]
