"""The line at each host, kept in a real Redis."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from pytest_django import Settings

from protected_machines.exports.upload_line import SharedUploadLine
from tests.places.ports import free_port
from tests.places.waiting import wait_until


@pytest.fixture
def workers(redis_url: str) -> Iterator[list[SharedUploadLine]]:
    """What three workers stand in line with, each by a connection of its own."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(SharedUploadLine())) for _ in range(3)]


def test_who_comes_first_is_first(workers: list[SharedUploadLine]) -> None:
    one, two, three = workers
    for _ in range(2):
        assert one.ahead("esx-1", "a") == 0
        assert two.ahead("esx-1", "b") == 1
        assert three.ahead("ESX-1", "c") == 2
    assert three.ahead("esx-2", "d") == 0
    one.leave("esx-1", "a")
    assert three.ahead("esx-1", "c") == 1
    assert one.ahead("esx-1", "e") == 2
    for name in ("b", "c", "e"):
        two.leave("esx-1", name)
    two.leave("esx-2", "d")
    assert one.ahead("esx-1", "f") == 0
    one.leave("esx-1", "f")


def test_a_killed_worker_loses_its_place(redis_url: str) -> None:
    with closing(SharedUploadLine(place_seconds=0.5)) as line:
        for name in ("dead", "alive"):
            line.ahead("esx-3", name)
        wait_until(lambda: line.ahead("esx-3", "alive") == 0)
        assert line.ahead("esx-3", "next") == 1


def test_a_place_from_before_the_clock_was_set_back_is_lost(redis_url: str) -> None:
    with closing(SharedUploadLine(place_seconds=86_400)) as before:
        before.ahead("esx-4", "dead")
    with closing(SharedUploadLine()) as line:
        assert line.ahead("esx-4", "alive") == 0


def test_without_redis_nobody_waits(settings: Settings) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    with closing(SharedUploadLine()) as line:
        assert [line.ahead("esx-1", name) for name in "abc"] == [0, 0, 0]
        line.leave("esx-1", "a")
