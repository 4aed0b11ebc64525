"""Places that tests share: a core's home of their own and a real Redis."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import django
import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings
from pytest_django import DjangoDbBlocker

from tests.clocks import clock as clock
from tests.places.ports import free_port
from tests.places.quick_pairing import set_pairing_cost
from tests.places.redis import RedisServer

# By how much other tests stand back when processors are short.
BEHIND_THE_STORY = 5

# A change is judged by the same few examples every time; `--hypothesis-profile long` searches for
# new ones.
_checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
settings.register_profile(
    "quick", deadline=None, max_examples=25, derandomize=True, suppress_health_check=_checks
)
settings.register_profile("long", deadline=None, max_examples=1000, suppress_health_check=_checks)
settings.load_profile("quick")

# Settings read the environment once, at import; a test run never touches a real core's home.
# pytest-django finds the settings module here and not in pyproject.toml, or it would load the
# settings before this file is read.
os.environ["DJANGO_SETTINGS_MODULE"] = "console.settings"
_home = tempfile.mkdtemp(prefix="understudy-tests-")
os.environ["UNDERSTUDY_HOME"] = _home
os.environ["UNDERSTUDY_CORE_NAME"] = "Test core"
# Agents of files only note that their machine is to shut down.
os.environ["UNDERSTUDY_SHUT_DOWN_SECONDS"] = "1"
_redis_port = free_port()
os.environ["REDIS_URL"] = f"redis://127.0.0.1:{_redis_port}/0"

# Conftests below this one import models.
django.setup()

# Its failures are to show the values that were compared, as those of test files do.
pytest.register_assert_rewrite("tests.console.jobs.generic_five")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    # Workers inherit the environment, and would load the settings before they read this file.
    os.environ.pop("DJANGO_SETTINGS_MODULE")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Set what pairing costs in this test, and let the one that takes longest go before others."""
    # Guests run what is shipped; agents and cores of `tests/places` pair quickly.
    set_pairing_cost(is_real=item.get_closest_marker("guests") is not None)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, 0 if _is_story(item) else BEHIND_THE_STORY)


def _is_story(item: pytest.Item) -> bool:
    return {"guests", "browser"} <= {mark.name for mark in item.iter_markers()}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Measure no coverage of what is only done once more: measuring doubles its time."""
    measuring = Coverage.current() if item.get_closest_marker("unmeasured") else None
    if measuring is None:
        return (yield)
    # Names the configuration to processes that are started meanwhile.
    for_processes = os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    measuring.stop()
    try:
        return (yield)
    finally:
        measuring.start()
        if for_processes is not None:
            os.environ["COVERAGE_PROCESS_CONFIG"] = for_processes


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left with it at the end."""

    def turn(item: pytest.Item) -> int:
        if _is_story(item):
            return 0
        marks = {mark.name for mark in item.iter_markers()}
        # A worker has its next file before it is done with the one at hand. What waits behind the
        # story is therefore short.
        if "tests/vsphere/" in item.nodeid:
            return 1
        if "guests" in marks:
            return 2
        return 3 if "slow" in marks else 4

    items.sort(key=turn)


def pytest_unconfigure() -> None:
    shutil.rmtree(_home, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server of this test run's own, which the settings already name."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), _redis_port)
    yield server.url
    server.kill()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Let tests empty the audit log: on SQLite, emptying a table deletes its rows."""
    from django.db import connection

    with django_db_blocker.unblock(), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("DROP TRIGGER IF EXISTS audit_no_delete")


@pytest.fixture(autouse=True)
def new_generation() -> None:
    """Each test has a database of its own, and none of them was restored from a backup."""
    Path(_home, "generation").unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def known_store() -> None:
    """Each test has a core that has written to its store before."""
    from protected_machines.own_store import adopt_store

    home = Path(_home)
    if not all((home / folder / "store.json").exists() for folder in ("identity", "store")):
        adopt_store()


@pytest.fixture
def core_home() -> Path:
    """The UNDERSTUDY_HOME of this test run."""
    return Path(_home)
