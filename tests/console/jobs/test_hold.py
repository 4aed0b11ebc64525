"""A database that is restored from a backup holds its open jobs until a person decides."""

from pathlib import Path

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from console.jobs import engine, generation, rescue
from console.jobs.acts import cancel_job, close_job, release_job, retry_job, undo_job
from console.jobs.choices import EventType, JobState
from console.jobs.doors import doors
from console.jobs.errors import JobConflict
from console.jobs.hold import hold_if_restored
from console.jobs.models import Generation, Job
from console.jobs.testing import fail_at, log_of, restore_points, run_until_done
from tests.console.jobs.demo import runs_of, start_demo, world_of

pytestmark = pytest.mark.django_db


def run_and_restore(job: Job, step: str = "send") -> None:
    """Let a job succeed; put the database back to before one of its steps began."""
    with restore_points(EventType.STARTED) as restores:
        run_until_done(job)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    generation.write(generation.number_of_database())
    for restore in reversed(restores):
        restore()
        job.refresh_from_db()
        if job.current_step == step:
            return
    raise AssertionError(f"{step} is not a step that began")


def test_a_job_of_a_restored_database_is_held_and_says_what_it_would_do(
    tmp_path: Path, admin_client: Client
) -> None:
    job = start_demo(tmp_path)
    run_and_restore(job, "copy")
    world = world_of(tmp_path)
    assert not engine.run_job(job.id)
    job.refresh_from_db()
    assert job.state == JobState.HELD
    assert (job.is_open, job.is_finished, job.lease_owner) == (True, False, "")
    assert rescue.rescue_stale_jobs() == 0
    assert world_of(tmp_path) == world
    page = admin_client.get(job.get_absolute_url()).content.decode()
    assert page.count("This core's database was restored from a backup") == 2
    assert "“Pack the parcel”, “Wait for the courier”" in page
    assert "Release" in page
    home = admin_client.get(reverse("console:home")).content.decode()
    assert "held" in home
    listed = admin_client.get(f"{reverse('jobs:jobs')}?state=held").content.decode()
    assert str(job.id) in listed


def test_a_job_that_was_being_undone_says_what_it_would_undo(
    tmp_path: Path, admin_client: Client
) -> None:
    job = start_demo(tmp_path)
    with restore_points(EventType.UNDO_STARTED) as restores, fail_at("wait_for_courier"):
        run_until_done(job)
    generation.write(generation.number_of_database())
    for restore in reversed(restores):
        restore()
    assert hold_if_restored()
    page = admin_client.get(job.get_absolute_url()).content.decode()
    assert "Released, it would undo, one after the other: “Pack the parcel”, “Make a box”." in page


def test_a_released_job_continues_where_the_backup_left_it(
    tmp_path: Path, admin_client: Client
) -> None:
    job = start_demo(tmp_path)
    run_and_restore(job, "thank")
    engine.run_job(job.id)
    answer = admin_client.post(reverse("jobs:job-release", args=[job.id]))
    assert answer.status_code == 303
    run_until_done(job)
    assert job.state == JobState.SUCCEEDED
    assert not hold_if_restored()


def test_a_closed_job_touches_nothing(tmp_path: Path, admin_client: Client) -> None:
    job = start_demo(tmp_path)
    run_and_restore(job)
    engine.run_job(job.id)
    world = world_of(tmp_path)
    admin_client.post(reverse("jobs:job-close", args=[job.id]))
    job.refresh_from_db()
    assert (job.state, world_of(tmp_path)) == (JobState.FAILED, world)
    assert "Closed by admin" in job.error_text


def test_a_held_job_cannot_be_cancelled_retried_or_undone(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    run_and_restore(job)
    engine.run_job(job.id)
    for act in (cancel_job, retry_job, undo_job):
        with pytest.raises(JobConflict, match=r"held|Only a job that needs attention"):
            act(job, None)
    release_job(job, None)
    with pytest.raises(JobConflict, match="Only a held job"):
        release_job(job, None)
    with pytest.raises(JobConflict, match="needs attention or is held"):
        close_job(job, None)


def test_a_held_job_still_holds_its_machine(tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    generation.write(100)
    with pytest.raises(JobConflict, match="is held"):
        start_demo(tmp_path, subject_id=job.subject_id)


def test_a_worker_that_outlives_the_restore_stops_before_its_next_event(tmp_path: Path) -> None:
    job = start_demo(tmp_path, slices=2)

    def restore_meanwhile() -> None:
        generation.write(generation.number_of_database() + 50)

    Job.objects.filter(pk=job.pk).update(wake_at=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            doors,
            "after_event",
            lambda _, step: restore_meanwhile() if step == "make_box" else None,
        )
        engine.run_job(job.id, send=lambda *_: True)
    assert not (tmp_path / "box" / "content").exists()
    assert runs_of(tmp_path, "copy") == []
    engine.run_job(job.id, send=lambda *_: True)
    job.refresh_from_db()
    assert job.state == JobState.HELD


def test_an_older_file_or_none_holds_nothing(tmp_path: Path, core_home: Path) -> None:
    job = start_demo(tmp_path)
    for text in ("", "00000000000000000001", "cut o"):
        (core_home / "generation").write_text(text)
        Generation.objects.update_or_create(pk=1, defaults={"number": 5})
        assert not hold_if_restored()
    assert run_until_done(job).state == JobState.SUCCEEDED


@pytest.mark.django_db(transaction=True)
def test_the_file_follows_each_commit_and_never_falls(tmp_path: Path, core_home: Path) -> None:
    run_until_done(start_demo(tmp_path))
    number = generation.number_of_database()
    assert int((core_home / "generation").read_text()) == number > 0
    generation.write(number - 1)
    assert generation.number_of_file() == number
    with transaction.atomic():
        generation.advance()
        transaction.set_rollback(True)
    assert generation.number_of_file() == number
