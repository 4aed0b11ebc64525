"""What monitors are told, with each part really broken."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.test import Client
from pytest_django import Settings

from console.jobs.choices import Queue
from console.pulse import ALIVE_SECONDS, note_alive, silent_queues
from tests.console.jobs.workers import worker
from tests.places.ports import free_port
from tests.places.waiting import wait_until

ALL = [queue.value for queue in Queue]
ROOT = Path(__file__).parents[2]
WELL = {"database": "ok", "redis": "ok", "workers": "ok", "store": "ok"}


@pytest.fixture
def broker(redis_url: str) -> Iterator["redis.Redis[bytes]"]:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def well(db: None, broker: "redis.Redis[bytes]") -> None:
    """A core of which every part works."""
    note_alive(ALL)


def asked(client: Client) -> tuple[int, dict[str, str]]:
    response = client.get("/readyz")
    return response.status_code, response.json()["parts"]


def test_a_process_answers_for_itself_without_session_and_database(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert "no-store" in response.headers["Cache-Control"]


def test_a_core_of_which_every_part_works_is_ready(client: Client, well: None) -> None:
    assert asked(client) == (200, WELL)


def test_without_redis_nothing_is_known_of_workers(
    client: Client, well: None, settings: Settings
) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    assert asked(client) == (503, {**WELL, "redis": "failed", "workers": "failed"})


@pytest.mark.parametrize("silent", ALL)
def test_a_queue_on_which_no_worker_works_is_noticed(
    client: Client, db: None, broker: "redis.Redis[bytes]", silent: str
) -> None:
    note_alive([queue for queue in ALL if queue != silent])
    assert asked(client) == (503, {**WELL, "workers": "failed"})


def test_redis_forgets_a_worker_that_fell_silent(broker: "redis.Redis[bytes]") -> None:
    note_alive(["control"])
    (key,) = broker.keys("understudy:*")
    assert 0 < broker.ttl(key) <= ALIVE_SECONDS


def test_another_store_than_the_own_is_noticed(client: Client, well: None, core_home: Path) -> None:
    mark = core_home / "store" / "store.json"
    kept = mark.read_text()
    mark.unlink()
    try:
        assert asked(client) == (503, {**WELL, "store": "failed"})
    finally:
        mark.write_text(kept)


ASK = """
import django
django.setup()
from django.test import Client
for path in ("/healthz", "/readyz"):
    response = Client().get(path)
    print(response.status_code, response.content.decode())
"""


@pytest.mark.parametrize("content", [b"not a database, but long enough" * 100, b""])
def test_a_broken_database_is_noticed_and_nothing_secret_is_said(
    content: bytes, tmp_path: Path, redis_url: str
) -> None:
    database = tmp_path / "core.sqlite3"
    database.write_bytes(content)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "console.settings",
        "UNDERSTUDY_HOME": str(tmp_path),
        "DATABASE_URL": f"sqlite://{database}",
    }
    answers = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    alive, ready = answers.stdout.splitlines()
    assert alive.startswith("200 ")
    assert ready.startswith("503 ")
    assert json.loads(ready.partition(" ")[2])["parts"]["database"] == "failed"
    assert str(tmp_path) not in answers.stdout
    assert "part=database reason=" in answers.stderr


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_only_reading_is_possible(client: Client, path: str) -> None:
    assert client.post(path).status_code == 405


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_worker_tells_that_it_lives(
    broker: "redis.Redis[bytes]", redis_url: str, tmp_path: Path
) -> None:
    with worker(redis_url, tmp_path) as running:
        wait_until(
            lambda: not silent_queues(["control"]), "a sign of life", 30, running.log.read_text
        )
        # It goes on after Redis was emptied.
        broker.flushall()
        wait_until(lambda: not silent_queues(["control"]), "another", 30, running.log.read_text)
        assert silent_queues(ALL) == ["transfer"]
