"""Fixtures of this room's tests: a store, a real agent process, a real vcsim."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from lab.vcsim.process import Vcsim, running_vcsim
from protected_machines.agents.pairing import protect_machine
from protected_machines.exports.vcenters import add_vcenter
from protected_machines.models import Machine, VCenter
from protected_machines.points.store import open_store
from recovery_store.store import Store
from tests.places.agent import CODE, MIB, RESCUE_CODE, RunningAgent
from tests.places.own_store import empty_store


@pytest.fixture
def admin_user(db: None) -> User:
    """An administrator whose password nobody hashes: the tests do not sign in with it."""
    user = User(username="admin", is_staff=True, is_superuser=True)
    user.set_unusable_password()
    user.save(force_insert=True)
    return user


@pytest.fixture
def store(core_home: Path) -> Iterator[Store]:
    """This core's store, empty before and after."""
    empty_store(core_home)
    yield open_store()
    empty_store(core_home)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    """An agent with a boot disk and a data disk, open for pairing."""
    folder = tmp_path / "agent"
    folder.mkdir()
    process = RunningAgent(folder)
    process.add_disk("boot", 4 * MIB)
    process.add_disk("data", 2 * MIB)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def rescue(tmp_path: Path) -> Iterator[RunningAgent]:
    """A machine with two blank disks that runs the rescue medium."""
    folder = tmp_path / "rescue"
    folder.mkdir()
    process = RunningAgent(folder, settings={"mode": "restore"}, code=RESCUE_CODE)
    process.add_blank_disk("first", 5 * MIB)
    process.add_blank_disk("second", 2 * MIB)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def machine(db: None, store: Store, agent: RunningAgent) -> Machine:
    """A machine that is paired with the running agent."""
    return protect_machine(name="db-01", host="127.0.0.1", port=agent.port, code=CODE)


@pytest.fixture(scope="session")
def vcsim() -> Iterator[Vcsim]:
    """A vCenter simulator for the whole run."""
    with running_vcsim() as simulator:
        yield simulator


@pytest.fixture
def vcenter(db: None, vcsim: Vcsim) -> VCenter:
    """The simulator, as a vCenter of this core."""
    return add_vcenter(
        name="DR vCenter",
        host=vcsim.host,
        port=vcsim.port,
        username=vcsim.username,
        password=vcsim.password,
        thumbprint=vcsim.thumbprint,
    )


@pytest.fixture
def files(store: Store) -> Callable[[], set[str]]:
    """The files of points in the store by relative path, without digest caches and locks."""

    def look() -> set[str]:
        return {
            str(path.relative_to(store.root))
            for path in store.root.rglob("machines/**/*")
            if path.is_file() and path.suffix in (".vmdk", ".json")
        }

    return look
