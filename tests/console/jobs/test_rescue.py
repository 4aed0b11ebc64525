"""Which open jobs are woken again, and that starting a job never waits for the broker."""

import base64
import contextlib
import datetime
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from celery import current_app
from django.db import transaction

from console.jobs import rescue
from console.jobs.choices import JobState
from console.jobs.rescue import OpenJob, due_wake_ups, rescue_stale_jobs
from tests.console.jobs.demo import start_demo

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def ago(seconds: float) -> datetime.datetime:
    return NOW - datetime.timedelta(seconds=seconds)


def is_woken(
    lease_until: datetime.datetime | None = None,
    wake_at: datetime.datetime | None = None,
    sent_at: datetime.datetime | None = NOW,
    send_count: int = 1,
) -> bool:
    job = OpenJob(uuid4(), lease_until, wake_at, sent_at, send_count)
    return bool(due_wake_ups([job], NOW))


def test_a_job_in_good_hands_is_left_alone() -> None:
    assert not is_woken(lease_until=ago(-5), sent_at=ago(3600))


def test_a_job_whose_worker_was_lost_is_woken_at_once() -> None:
    assert is_woken(lease_until=ago(1), sent_at=NOW, send_count=0)


def test_a_call_that_could_not_be_sent_is_sent_again_at_once() -> None:
    assert is_woken(sent_at=None)


def test_a_call_is_given_time_to_be_answered() -> None:
    assert not is_woken(sent_at=ago(rescue.FIRST_RESEND_SECONDS - 1))
    assert is_woken(sent_at=ago(rescue.FIRST_RESEND_SECONDS))


def test_each_further_call_comes_later_than_the_last() -> None:
    assert not is_woken(sent_at=ago(rescue.FIRST_RESEND_SECONDS), send_count=2)
    assert is_woken(sent_at=ago(rescue.FIRST_RESEND_SECONDS * 2), send_count=2)
    assert is_woken(sent_at=ago(rescue.LONGEST_RESEND_SECONDS), send_count=500)


def test_a_job_that_waits_is_woken_when_its_time_has_come_and_gone() -> None:
    assert not is_woken(wake_at=ago(-1), sent_at=ago(3600))
    assert not is_woken(wake_at=ago(1), sent_at=ago(3600))
    assert is_woken(wake_at=ago(rescue.FIRST_RESEND_SECONDS), sent_at=ago(3600))


@contextlib.contextmanager
def broker_away() -> Iterator[list[str]]:
    """Have wake-ups sent to where every caller is turned away; yield who called."""
    callers: list[str] = []

    def turn_away() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, address = door.accept()
                callers.append(str(address))
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=turn_away)
        thread.start()
        current_app.conf.broker_write_url = f"redis://127.0.0.1:{door.getsockname()[1]}/0"
        try:
            yield callers
        finally:
            current_app.conf.broker_write_url = None
            door.shutdown(socket.SHUT_RDWR)
            thread.join(30)


def waiting_calls(redis_url: str) -> list[str]:
    """Return the ids of the jobs whose wake-up is in the queue."""
    with redis.Redis.from_url(redis_url) as client:
        messages = [json.loads(message) for message in client.lrange("control", 0, -1)]
    return [json.loads(base64.b64decode(message["body"]))[0][0] for message in messages]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_job_starts_without_broker_and_is_woken_when_it_is_back(
    tmp_path: Path, redis_url: str
) -> None:
    with broker_away() as callers:
        job = start_demo(tmp_path)
    # The Redis client calls twice at once. If Celery repeated that, a page would wait for it.
    assert len(callers) == 2
    job.refresh_from_db()
    assert (job.state, job.sent_at) == (JobState.QUEUED, None)
    assert str(job.id) not in waiting_calls(redis_url)
    assert rescue_stale_jobs() == 1
    assert waiting_calls(redis_url).count(str(job.id)) == 1
    assert rescue_stale_jobs() == 0


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_wake_up_is_sent_after_commit_only(tmp_path: Path, redis_url: str) -> None:
    with transaction.atomic():
        job = start_demo(tmp_path)
        assert str(job.id) not in waiting_calls(redis_url)
    assert str(job.id) in waiting_calls(redis_url)
