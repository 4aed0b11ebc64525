"""Jobs outlive their workers, their broker and double deliveries: real processes, real Redis."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.utils import timezone

from console.jobs.choices import EventType, JobState
from console.jobs.models import Job
from console.jobs.rescue import rescue_stale_jobs
from console.jobs.testing import log_of
from console.jobs.wake import send_wake_up
from tests.console.jobs.demo import runs_of, start_demo, world_of
from tests.console.jobs.workers import WorkerProcess, worker
from tests.places.redis import RedisServer
from tests.places.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def broker(redis_url: str) -> Iterator["redis.Redis[bytes]"]:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where workers write, apart from where jobs do."""
    return tmp_path_factory.mktemp("workers")


def beat(logs: Path) -> tuple[str, ...]:
    """Options of the worker that runs the periodic tasks as well."""
    return ("--beat", "-s", str(logs / "beat"))


def wait_for_end(job: Job, running: WorkerProcess, state: JobState = JobState.SUCCEEDED) -> None:
    def has_ended() -> bool:
        job.refresh_from_db()
        return job.is_finished

    wait_until(has_ended, "the end of the job", 60, running.log.read_text)
    assert job.state == state, log_of(job)


def wait_for_slices(job: Job, folder: Path, running: WorkerProcess, count: int = 3) -> None:
    content = folder / f"parcel-{job.id}" / "content"
    wait_until(
        lambda: content.exists() and content.stat().st_size >= count,
        "slices",
        60,
        running.log.read_text,
    )


def sent_once(job: Job, folder: Path) -> bool:
    return world_of(folder)["ledger"] == f"parcel-{job.id}\n"


def forget_wake_up(job: Job) -> None:
    """Make the last wake-up so old that the rescuer takes it for lost."""
    long_ago = timezone.now() - datetime.timedelta(minutes=5)
    Job.objects.filter(id=job.id).update(sent_at=long_ago, send_count=1)


def rescue_to_the_end(job: Job, running: WorkerProcess) -> None:
    """Be the rescuer, who comes again and again: once may be before the job is due."""

    def has_ended() -> bool:
        forget_wake_up(job)
        rescue_stale_jobs()
        job.refresh_from_db()
        return job.is_finished

    wait_until(has_ended, "the end of the job", 60, running.log.read_text)
    assert job.state == JobState.SUCCEEDED, log_of(job)


def test_a_job_goes_on_when_its_worker_is_killed(
    broker: "redis.Redis[bytes]", redis_url: str, tmp_path: Path, logs: Path
) -> None:
    with worker(redis_url, logs) as first:
        job = start_demo(tmp_path, slices=25, seconds_per_slice=0.1, waits=1)
        wait_for_slices(job, tmp_path, first)
        first.kill()
    job.refresh_from_db()
    assert job.state == JobState.RUNNING
    with worker(redis_url, logs, *beat(logs)) as second:
        wait_for_end(job, second)
    assert sent_once(job, tmp_path)
    assert len(set(runs_of(tmp_path, "copy"))) == 2
    assert job.events.filter(type=EventType.WORKER_LOST).count() == 1
    assert (tmp_path / f"parcel-{job.id}" / "content").read_text() == "x" * 25


def test_jobs_go_on_when_redis_is_emptied(
    broker: "redis.Redis[bytes]", redis_url: str, tmp_path: Path, logs: Path
) -> None:
    waiting = start_demo(tmp_path)
    broker.flushall()
    with worker(redis_url, logs) as running:
        working = start_demo(tmp_path, slices=10, seconds_per_slice=0.1, waits=2)
        wait_for_slices(working, tmp_path, running)
        broker.flushall()
        wait_until(
            lambda: working.events.filter(type=EventType.WAITING).exists(),
            "a wait",
            60,
            running.log,
        )
        broker.flushall()
        rescue_to_the_end(waiting, running)
        rescue_to_the_end(working, running)


def test_double_deliveries_do_nothing_twice(
    broker: "redis.Redis[bytes]", redis_url: str, tmp_path: Path, logs: Path
) -> None:
    with worker(redis_url, logs, "--concurrency", "4") as running:
        job = start_demo(tmp_path, slices=10, seconds_per_slice=0.05)
        for _ in range(10):
            send_wake_up(job)
        wait_for_end(job, running)
        send_wake_up(job)
        wait_until(lambda: broker.llen("control") == 0, "an empty queue", 30, running.log.read_text)
    assert len(runs_of(tmp_path, "copy")) == 1
    assert job.events.filter(type=EventType.STARTED).count() == job.steps.count()


def test_cancel_reaches_a_running_step(
    broker: "redis.Redis[bytes]", redis_url: str, tmp_path: Path, logs: Path
) -> None:
    from console.jobs.acts import cancel_job

    with worker(redis_url, logs) as running:
        job = start_demo(tmp_path, slices=600, seconds_per_slice=0.1)
        wait_for_slices(job, tmp_path, running)
        wait_until(lambda: Job.objects.get(id=job.id).done_bytes > 0, "live figures", 30)
        cancel_job(job, None)
        wait_for_end(job, running, JobState.FAILED)
    assert job.is_cancelled
    assert not (tmp_path / f"parcel-{job.id}").exists()


def test_a_job_goes_on_when_redis_comes_back(logs: Path, tmp_path: Path) -> None:
    server = RedisServer(logs)
    with server.named_by_settings(), worker(server.url, logs, *beat(logs)) as running:
        job = start_demo(tmp_path, slices=15, seconds_per_slice=0.1, waits=2)
        wait_for_slices(job, tmp_path, running)
        server.kill()
        wait_until(lambda: job.steps.get(name="copy").finished_at, "a copy without Redis", 30)
        server.start()
        wait_for_end(job, running)
    assert len(runs_of(tmp_path, "copy")) == 1
    assert sent_once(job, tmp_path)
    assert f"step done job={job.id} kind=demo step=copy" in running.log.read_text()
