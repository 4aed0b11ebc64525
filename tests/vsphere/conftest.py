"""A real simulator over TLS for every test; see `lab/vcsim/process.py`."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.vcsim.process import Vcsim, running_vcsim
from tests.places.vcsim import credentials_of
from tests.vsphere.disks import disk_of
from tests.vsphere.leases import Lease, open_lease
from tests.vsphere.site import World
from vsphere import Credentials, Session, connect
from vsphere.api import vmodl


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vcsim]:
    with running_vcsim(tmp_path_factory.mktemp("vcsim")) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def _shared_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vcsim]:
    with running_vcsim(tmp_path_factory.mktemp("esx"), model="esx") as simulator:
        yield simulator


@contextlib.contextmanager
def clean(simulator: Vcsim) -> Iterator[Vcsim]:
    """Remove machines and faults afterwards; the simulator must still run then."""
    yield simulator
    assert simulator.is_running()
    simulator.no_faults()
    with connect(credentials_of(simulator)) as session:
        for machine in session.inventory(with_virtual_machines=True).virtual_machines:
            vm = session.get_vm(machine.moid)
            vm.power_off()
            vm.destroy(vm.marker or "")


@pytest.fixture
def vcsim(_shared: Vcsim) -> Iterator[Vcsim]:
    """A vCenter without machines and faults."""
    with clean(_shared):
        yield _shared


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Vcsim]]:
    """Start further simulators with flags of one's own."""
    started: list[Any] = []

    def start_one(**flags: Any) -> Vcsim:
        manager = running_vcsim(tmp_path / str(len(started)), **flags)
        started.append(manager)
        return manager.__enter__()

    yield start_one
    for manager in started:
        manager.__exit__(None, None, None)


@pytest.fixture
def credentials(vcsim: Vcsim) -> Credentials:
    """What signs in to the simulator."""
    return credentials_of(vcsim)


@pytest.fixture
def session(credentials: Credentials) -> Iterator[Session]:
    """A session of the vCenter."""
    with connect(credentials) as one:
        yield one


@pytest.fixture
def world(vcsim: Vcsim, session: Session) -> World:
    """The vCenter with a placement chosen in it."""
    return World(vcsim, session)


@pytest.fixture
def esx(start: Callable[..., Vcsim]) -> Iterator[World]:
    """A stand-alone ESXi host with a placement chosen in it."""
    simulator = start(model="esx")
    with connect(credentials_of(simulator)) as one:
        yield World(simulator, one)


@pytest.fixture(scope="module", params=["vpx", "esx"])
def either(request: pytest.FixtureRequest) -> Iterator[World]:
    """A vCenter, then a stand-alone host; tests share its session and its machines."""
    simulator = request.getfixturevalue("_shared" if request.param == "vpx" else "_shared_host")
    with clean(simulator), connect(credentials_of(simulator)) as one:
        yield World(simulator, one)


@pytest.fixture
def lease(world: World) -> Iterator[Lease]:
    """An open lease on a machine with two disks."""
    one = open_lease(world, disks=[disk_of(0), disk_of(1)])
    assert one.wait() == "ready"
    yield one
    with contextlib.suppress(vmodl.MethodFault):
        one.managed.HttpNfcLeaseAbort()
    assert world.uploaded() == [] or world.machine_names() != []
