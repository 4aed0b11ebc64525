"""The engine on the demo workflow: claims, leases, waiting, cancel, retry, undo, projections."""

import datetime
import random
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection
from django.db.models.signals import post_init
from django.utils import timezone

from console.jobs import engine, journal, plan
from console.jobs.acts import cancel_job, close_job, retry_job, start_job, undo_job
from console.jobs.choices import EventType, JobState, StepState
from console.jobs.doors import doors
from console.jobs.errors import JobConflict, LeaseLost
from console.jobs.models import Job, JobEvent, JobStep
from console.jobs.testing import (
    JumpingClock,
    WorkerCrashed,
    crash_after,
    crash_before,
    fail_at,
    log_of,
    run_until_done,
)
from console.jobs.workflow import Step, StepAction, StepFailed, Waiting
from tests.console.jobs.demo import runs_of, start_demo, start_patient, world_of

pytestmark = pytest.mark.django_db


def send_nothing(job: Job, delay_seconds: float) -> bool:
    return True


def run_once(job: Job, clock: JumpingClock | None = None) -> bool:
    return engine.run_job(job.id, clock=clock or JumpingClock(), send=send_nothing)


def test_outputs_are_saved_under_the_name_of_their_step(tmp_path: Path) -> None:
    job = run_until_done(start_demo(tmp_path))
    step = job.steps.get(name="reserve_name")
    assert step.output == {"name": f"parcel-{job.id}"}


def test_a_waiting_job_frees_the_worker_and_says_why(tmp_path: Path) -> None:
    job = start_demo(tmp_path, waits=1)
    assert run_once(job)
    job.refresh_from_db()
    step = job.steps.get(name="wait_for_courier")
    assert (step.state, step.note) == (StepState.WAITING, "The courier has not come yet.")
    assert (job.state, job.lease_until) == (JobState.RUNNING, None)
    assert job.wake_at is not None
    assert run_until_done(job).state == JobState.SUCCEEDED


def test_waiting_for_the_same_reason_adds_no_event(tmp_path: Path) -> None:
    job = run_until_done(start_demo(tmp_path, waits=4))
    assert job.events.filter(type=EventType.WAITING).count() == 1
    assert job.steps.get(name="wait_for_courier").attempt == 1


def test_a_wait_ends_at_the_limit_of_its_step(tmp_path: Path) -> None:
    job, clock = start_demo(tmp_path, waits=1000), JumpingClock()
    run_once(job, clock)
    for _ in range(4):
        clock.skip(20)
        run_once(job, clock)
    run_until_done(job, clock)
    assert job.error_code == "JOBS-STEP-TIMED-OUT"
    assert "The courier has not come yet." in job.error_text
    assert "60 seconds" in job.error_text


def test_time_without_any_worker_is_not_counted_as_waiting(tmp_path: Path) -> None:
    job, clock = start_demo(tmp_path, waits=1000), JumpingClock()
    run_once(job, clock)
    clock.skip(24 * 3600)
    run_once(job, clock)
    job.refresh_from_db()
    assert job.state == JobState.RUNNING, log_of(job)
    assert job.steps.get(name="wait_for_courier").attempt == 2


def test_a_step_waits_until_its_job_is_the_only_exclusive_one(tmp_path: Path) -> None:
    rival = start_demo(tmp_path)
    job = start_patient(tmp_path, rival.subject_id)
    run_once(job)
    job.refresh_from_db()
    assert not job.is_exclusive
    step = job.steps.get(name="take_turn")
    assert step.state == StepState.WAITING
    assert step.note == "Send parcel of web-01 has to finish first."
    assert not (tmp_path / "turn").exists()
    run_until_done(rival)
    assert run_until_done(job).state == JobState.SUCCEEDED
    assert job.is_exclusive
    assert (tmp_path / "turn").exists()


def test_a_job_that_became_exclusive_lets_no_other_one_begin(tmp_path: Path) -> None:
    job = start_patient(tmp_path, uuid4())
    with crash_before(EventType.SUCCEEDED, "take_turn"), pytest.raises(WorkerCrashed):
        run_once(job)
    with pytest.raises(JobConflict, match="Collect parcel") as caught:
        start_demo(tmp_path, subject_id=job.subject_id)
    assert caught.value.job == job


def test_a_job_that_waits_for_its_turn_can_be_cancelled(tmp_path: Path) -> None:
    rival = start_demo(tmp_path)
    job = start_patient(tmp_path, rival.subject_id)
    run_once(job)
    cancel_job(job, None)
    assert run_until_done(job).is_cancelled
    rival.refresh_from_db()
    assert rival.state == JobState.QUEUED


def test_a_job_that_waits_is_not_claimed_early(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    Job.objects.filter(id=job.id).update(wake_at=timezone.now() + datetime.timedelta(seconds=30))
    assert not run_once(job)


def test_a_lease_is_won_once(tmp_path: Path) -> None:
    job, now = start_demo(tmp_path), timezone.now()
    assert Job.objects.claim(job.id, "first", now, 30)
    assert not Job.objects.claim(job.id, "second", now, 30)
    later = now + datetime.timedelta(seconds=31)
    assert Job.objects.claim(job.id, "second", later, 30)
    assert not Job.objects.renew(job.id, "first", later, 30)
    assert not Job.objects.release(job.id, "first", None, later)


def test_a_finished_job_is_not_claimed(tmp_path: Path) -> None:
    job = run_until_done(start_demo(tmp_path))
    assert not run_once(job)


def test_a_worker_without_the_lease_writes_nothing(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    book = journal.Journal(job.id, job.workflow, owner="gone")
    with pytest.raises(LeaseLost):
        book.add(EventType.STARTED, "reserve_name", timezone.now())
    assert not job.events.exists()


def test_a_decision_on_an_old_log_is_not_written(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    book = journal.Journal(job.id, job.workflow)
    cancel_job(job, None)
    with pytest.raises(journal.LogMoved):
        book.add(EventType.STARTED, "reserve_name", timezone.now(), must_be_next=True)


def test_a_long_log_is_not_read_again_for_each_event(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    book = journal.Journal(job.id, job.workflow)
    book.add(EventType.STARTED, "reserve_name", timezone.now())
    read: list[JobEvent] = []

    def count(instance: JobEvent, **_: object) -> None:
        read.append(instance)

    post_init.connect(count, sender=JobEvent)
    try:
        for number in range(20):
            book.add(EventType.NOTE, "reserve_name", timezone.now(), {"text": f"{number}"})
    finally:
        post_init.disconnect(count, sender=JobEvent)
    assert len(read) == 20, "an event that is added is made once, and no other is read"


def test_an_event_that_could_not_be_written_is_not_remembered(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    book = journal.Journal(job.id, job.workflow)
    book.add(EventType.STARTED, "reserve_name", timezone.now())

    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(f'UPDATE "{JobStep._meta.db_table}"'):
            raise OperationalError("disk I/O error")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse), pytest.raises(OperationalError):
        book.add(EventType.SUCCEEDED, "reserve_name", timezone.now(), {"output": {}})
    assert job.events.count() == 1
    assert book.read().steps["reserve_name"].state == StepState.RUNNING
    book.add(EventType.SUCCEEDED, "reserve_name", timezone.now(), {"output": {}})
    assert job.events.count() == 2


def test_cancel_while_waiting_rolls_back(tmp_path: Path) -> None:
    job = start_demo(tmp_path, waits=1000, slices=2)
    run_once(job)
    cancel_job(job, None)
    run_until_done(job)
    assert job.is_cancelled, log_of(job)
    assert list(world_of(tmp_path)) == [f"waited-{job.id}"]


def test_cancel_is_refused_past_the_point_of_no_return(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    with crash_after(EventType.STARTED, "send"), pytest.raises(WorkerCrashed):
        run_once(job)
    with pytest.raises(JobConflict, match="it is on its way"):
        cancel_job(job, None)


def test_cancel_twice_is_refused(tmp_path: Path) -> None:
    job = start_demo(tmp_path, waits=5)
    run_once(job)
    cancel_job(job, None)
    with pytest.raises(JobConflict):
        cancel_job(job, None)


def test_retry_of_a_failed_job_is_a_new_job_linked_to_it(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    with fail_at("copy"):
        run_until_done(job)
    again = retry_job(job, None)
    assert again.id != job.id
    assert again.retry_of == job
    assert again.params == job.params
    assert run_until_done(again).state == JobState.SUCCEEDED


def test_retry_twice_is_one_new_job(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    with fail_at("copy"):
        run_until_done(job)
    assert retry_job(job, None) == retry_job(job, None)
    assert job.retries.count() == 1


def test_retry_is_refused_while_the_subject_is_busy(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    with fail_at("thank"):
        run_until_done(job)
    assert job.state == JobState.NEEDS_ATTENTION
    other = start_demo(tmp_path, subject_id=job.subject_id)
    with pytest.raises(JobConflict) as caught:
        retry_job(job, None)
    assert caught.value.job == other
    job.refresh_from_db()
    assert job.state == JobState.NEEDS_ATTENTION


def test_retry_of_a_done_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobConflict, match="done"):
        retry_job(run_until_done(start_demo(tmp_path)), None)


def test_undo_by_hand_puts_things_back_while_nothing_irreversible_was_done(tmp_path: Path) -> None:
    job = start_demo(tmp_path, slices=1)
    with fail_at("send"):
        run_until_done(job)
    assert job.state == JobState.NEEDS_ATTENTION
    undo_job(job, None)
    assert run_until_done(job).state == JobState.FAILED
    assert world_of(tmp_path) == {}


def test_undo_by_hand_is_refused_when_something_cannot_be_undone(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    with fail_at("thank"):
        run_until_done(job)
    with pytest.raises(JobConflict, match="Send the parcel"):
        undo_job(job, None)


def test_a_job_in_trouble_can_be_closed_as_it_is(tmp_path: Path) -> None:
    admin = get_user_model().objects.create_user("ann")
    job = start_demo(tmp_path)
    with fail_at("thank"):
        run_until_done(job)
    close_job(job, admin)
    assert job.state == JobState.FAILED
    assert "Closed by ann" in job.error_text


def test_a_step_that_kills_its_worker_again_and_again_needs_attention(tmp_path: Path) -> None:
    job, clock = start_demo(tmp_path), JumpingClock()
    for _ in range(plan.LOST_WORKERS_LIMIT):
        with crash_after(EventType.STARTED, "copy"), pytest.raises(WorkerCrashed):
            run_once(job, clock)
        clock.skip(60)
    run_once(job, clock)
    job.refresh_from_db()
    assert job.state == JobState.NEEDS_ATTENTION, log_of(job)
    assert job.error_code == "JOBS-WORKER-LOST"
    assert runs_of(tmp_path, "copy") == []


def test_an_unknown_plan_leaves_the_job_alone(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    Job.objects.filter(id=job.id).update(plan_version=99)
    assert not run_once(job)
    job.refresh_from_db()
    assert (job.state, job.lease_until) == (JobState.QUEUED, None)


def test_an_error_without_a_code_is_internal(tmp_path: Path) -> None:
    job = start_demo(tmp_path / "missing")
    run_until_done(job)
    assert job.error_code == engine.INTERNAL
    assert "FileNotFoundError" in job.error_text


@pytest.mark.parametrize("seed", range(8))
def test_workers_that_die_again_and_again_do_nothing_twice(tmp_path: Path, seed: int) -> None:
    """Each event has a good chance to be a worker's last act, or to be lost with it."""
    luck = random.Random(seed)

    def maybe_die(event_type: EventType, step: str) -> None:
        if luck.random() < 0.2:
            raise WorkerCrashed

    job = start_demo(tmp_path, slices=3)
    before, after = doors.before_event, doors.after_event
    doors.before_event = doors.after_event = maybe_die
    try:
        run_until_done(job)
    finally:
        doors.before_event, doors.after_event = before, after
    if job.state == JobState.NEEDS_ATTENTION:
        assert job.error_code == plan.WORKER_LOST
        run_until_done(retry_job(job, None))
    assert job.state == JobState.SUCCEEDED, log_of(job)
    assert world_of(tmp_path)["ledger"] == f"parcel-{job.id}\n"
    assert world_of(tmp_path)[f"parcel-{job.id}/content"] == "xxx"


@pytest.mark.parametrize("troubles", [(), ("copy",), ("send",), ("thank",)])
def test_rows_can_be_rebuilt_from_the_events(tmp_path: Path, troubles: tuple[str, ...]) -> None:
    job = start_demo(tmp_path, slices=3, waits=1)
    with fail_at(*troubles):
        run_until_done(job)
    history = plan.replay(job.workflow, journal.events_of(job.id))
    rebuilt = Job.objects.get(id=job.id)
    journal.project_job(rebuilt, history)
    for column in journal.JOB_PROJECTION:
        assert getattr(rebuilt, column) == getattr(job, column), column
    for step in JobStep.objects.filter(job=job):
        for column, value in journal.step_columns(history.steps[step.name]).items():
            assert getattr(step, column) == value, (step.name, column)


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_at_once_one_works(tmp_path: Path) -> None:
    job = start_demo(tmp_path, slices=2, seconds_per_slice=0.2)
    results: list[bool] = []
    gate = threading.Barrier(4)

    def work() -> None:
        gate.wait()
        try:
            results.append(engine.run_job(job.id, send=send_nothing))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, False, True]
    assert len(runs_of(tmp_path, "copy")) == 1


def test_start_in_a_job_of_its_own_request_id_returns_the_same_job(tmp_path: Path) -> None:
    request_id = uuid4()
    first = start_demo(tmp_path, request_id=request_id)
    assert start_demo(tmp_path, request_id=request_id) == first
    assert Job.objects.count() == 1


def test_a_subject_has_one_open_exclusive_job(tmp_path: Path) -> None:
    first = start_demo(tmp_path)
    with pytest.raises(JobConflict, match="cannot start") as caught:
        start_demo(tmp_path, subject_id=first.subject_id)
    assert caught.value.job == first
    run_until_done(first)
    assert start_demo(tmp_path, subject_id=first.subject_id).state == JobState.QUEUED


@pytest.mark.parametrize("has_cause", [False, True])
def test_an_undo_that_has_to_wait_is_tried_again(tmp_path: Path, has_cause: bool) -> None:
    waits = []

    def call(running: Step, action: StepAction, context: Any, undo: bool) -> Any:
        if undo and not waits:
            waits.append(running.name)
            cause = StepFailed("TEST-AWAY", "The courier is away.") if has_cause else None
            raise Waiting("The courier still holds the box.") from cause
        return previous(running, action, context, undo)

    previous = doors.call
    doors.call = call
    try:
        with fail_at("wait_for_courier"):
            job = run_until_done(start_demo(tmp_path))
    finally:
        doors.call = previous
    assert job.state == JobState.FAILED, log_of(job)
    failed = job.events.get(type=EventType.UNDO_FAILED)
    said = (failed.payload["code"], failed.payload["text"])
    if has_cause:
        assert said == ("TEST-AWAY", "The courier is away.")
    else:
        assert said == ("JOBS-WAITING", "The courier still holds the box.")
    assert failed.step == waits[0]
    assert world_of(tmp_path) == {}


def test_a_job_takes_the_parameters_of_its_own_workflow_only() -> None:
    with pytest.raises(TypeError, match="demo needs"):
        start_job("demo", uuid4(), "Parcel", {"folder": "/tmp"})
    assert not Job.objects.exists()


@pytest.mark.parametrize("is_undo", [False, True])
def test_a_database_error_inside_a_step_is_a_lost_worker_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_undo: bool
) -> None:
    """Another process held the lock too long: what the step did outside is not undone for it."""
    failures: list[str] = []
    previous = doors.call

    def call(running: Step, action: StepAction, context: Any, undo: bool) -> Any:
        result = previous(running, action, context, undo)
        if running.name == "copy" and undo == is_undo and not failures:
            failures.append(running.name)
            raise OperationalError("database is locked")
        return result

    monkeypatch.setattr(doors, "call", call)
    job = start_demo(tmp_path, slices=2)
    if is_undo:
        with fail_at("wait_for_courier"):
            run_until_done(job)
    else:
        run_until_done(job)
    assert failures == ["copy"]
    assert job.state == (JobState.FAILED if is_undo else JobState.SUCCEEDED), log_of(job)
    of_copy = job.events.filter(step="copy")
    assert of_copy.filter(type=EventType.WORKER_LOST).count() == 1
    assert not of_copy.filter(type__in=[EventType.FAILED, EventType.UNDO_FAILED]).exists()
