"""Places of these tests: a second core that runs, an agent, a store, a vSphere with guests."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from playwright.sync_api import Page
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from lab.vcsim.process import Vcsim, running_vcsim
from protected_machines.choices import MachineKind
from protected_machines.exports.options import VmOptions
from protected_machines.exports.vcenters import add_vcenter
from protected_machines.models import Machine, RecoveryPoint, VCenter
from protected_machines.points.store import open_store
from protected_machines.points.taking import take_recovery_point
from recovery_store.store import Store
from replication.models import Pairing, ReplicatedMachine
from replication.peers.pairing import add_source_core, add_target_core
from tests.browser import chromium, page_of
from tests.factories import make_vcenter
from tests.places.agent import CODE, MIB, RESCUE_CODE, RunningAgent
from tests.places.guests import Guests
from tests.places.own_store import empty_store
from tests.places.peer_core import PeerCore
from tests.places.ports import free_port
from tests.replication.rows import hand_over, make_replicated


@pytest.fixture(autouse=True)
def quick_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def admin(db: None) -> User:
    return get_user_model().objects.create_superuser("admin", password="correct horse")


@pytest.fixture
def signed_in(admin: User) -> Client:
    client = Client()
    client.force_login(admin)
    return client


@pytest.fixture
def store(core_home: Path) -> Iterator[Store]:
    """This core's store, empty before and after."""
    empty_store(core_home)
    yield open_store()
    empty_store(core_home)


@pytest.fixture(scope="session")
def running_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerCore]:
    core = PeerCore(tmp_path_factory.mktemp("peer"), "DR site", free_port())
    core.set_up()
    core.start()
    yield core
    core.stop_worker()
    core.stop()


@pytest.fixture
def peer(running_peer: PeerCore) -> PeerCore:
    """Another core that runs, with a worker, without machines, pairings and points."""
    if running_peer.process is None:
        running_peer.start()
    if running_peer.worker is None:
        running_peer.start_worker()
    assert running_peer.worker is not None
    assert running_peer.worker.poll() is None, running_peer.home / "worker.log"
    running_peer.forget_everything()
    empty_store(running_peer.home)
    return running_peer


@pytest.fixture
def source(peer: PeerCore) -> PeerCore:
    """That other core as a source core."""
    return peer


@pytest.fixture
def rescue(tmp_path: Path) -> Iterator[RunningAgent]:
    """A machine with two blank disks that runs the rescue medium."""
    folder = tmp_path / "rescue"
    folder.mkdir()
    process = RunningAgent(folder, settings={"mode": "restore"}, code=RESCUE_CODE)
    process.add_blank_disk("first", 2 * MIB)
    process.add_blank_disk("second", 2 * MIB)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def outgoing(db: None, peer: PeerCore) -> Pairing:
    """This core is the source, the peer its target."""
    return add_target_core("127.0.0.1", peer.port, peer.pairing_code)


@pytest.fixture(scope="session")
def running_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One agent for the whole run; `machine` is paired with it anew where it must be."""
    process = RunningAgent(tmp_path_factory.mktemp("agent"))
    process.add_disk("boot", 2 * MIB)
    process.add_disk("data", 1 * MIB)
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def paired_agent(
    running_agent: RunningAgent, django_db_setup: None, django_db_blocker: object
) -> tuple[str, dict[str, object]]:
    """The agent's certificate and description; this core is paired with it once."""
    from agent.client import pair_with_agent
    from console.identity import this_core
    from protected_machines.agents.connection import core_credentials

    paired = pair_with_agent(
        "127.0.0.1", running_agent.port, CODE, core_credentials(), this_core().name
    )
    return paired.certificate_pem, paired.description.to_json()


@pytest.fixture
def machine(
    db: None, store: Store, running_agent: RunningAgent, paired_agent: tuple[str, dict[str, object]]
) -> Machine:
    """A machine that this core protects, with a real agent."""
    from tests.factories import make_machine

    certificate_pem, description = paired_agent
    return make_machine(
        name="db-01",
        host="127.0.0.1",
        port=running_agent.port,
        agent_certificate_pem=certificate_pem,
        description=description,
    )


@pytest.fixture
def take_point(machine: Machine) -> Callable[[], RecoveryPoint]:
    """Take a further real recovery point of the machine."""

    def take() -> RecoveryPoint:
        return take_recovery_point(machine, "incremental", uuid.uuid4())

    return take


@pytest.fixture
def core_interface(settings: Settings) -> None:
    """The addresses of the core interface instead of the console's."""
    settings.ROOT_URLCONF = "replication.api.urls"
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
    settings.APPEND_SLASH = False


@pytest.fixture
def incoming(db: None) -> Pairing:
    """A source core that has gone silent."""
    from tests.replication.rows import make_pairing

    return make_pairing(direction="incoming", peer_name="Headquarters", port=free_port())


@pytest.fixture(scope="session")
def vcsim() -> Iterator[Vcsim]:
    with running_vcsim(machines=1) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def _guests(vcsim: Vcsim) -> Iterator[Guests]:
    watching = Guests(vcsim)
    watching.asleep.set()
    watching.start()
    yield watching
    watching.stop()


@pytest.fixture
def guests(_guests: Guests) -> Iterator[Guests]:
    """What stands in for machines that boot: their tools report as soon as they are on."""
    # Only for tests that need it: the watch keeps this process and the simulator busy.
    _guests.asleep.clear()
    yield _guests
    _guests.asleep.set()


@pytest.fixture
def vcenter(db: None, vcsim: Vcsim) -> VCenter:
    return add_vcenter(
        name="DR vCenter",
        host=vcsim.host,
        port=vcsim.port,
        username=vcsim.username,
        password=vcsim.password,
        thumbprint=vcsim.thumbprint,
    )


@pytest.fixture
def replica(
    incoming: Pairing, machine: Machine, take_point: Callable[[], RecoveryPoint]
) -> ReplicatedMachine:
    """A machine with two proven points that a lost source core replicated here."""
    take_point().mark_proven()
    take_point().mark_proven()
    incoming.connection_state = "unreachable"
    incoming.save(update_fields=["connection_state"])
    return hand_over(machine, incoming)


@pytest.fixture
def answering_source(db: None, peer: PeerCore) -> Pairing:
    """The source core answers; it was set up anew."""
    return add_source_core("127.0.0.1", peer.port, peer.pairing_code)


@pytest.fixture
def running_here(
    machine: Machine, take_point: Callable[[], RecoveryPoint], answering_source: Pairing
) -> ReplicatedMachine:
    """A machine of two points that failed over to this core and can be failed back."""
    take_point()
    take_point()
    Machine.objects.filter(pk=machine.pk).update(
        kind=MachineKind.FAILED_OVER,
        ownership_epoch=2,
        source_core_id=answering_source.peer_core_id,
        vcenter=make_vcenter(),
        vm_moid="vm-1",
        vm_name="db-01",
    )
    return make_replicated(answering_source, Machine.objects.get(pk=machine.pk))


@pytest.fixture
def clean_vcenter(vcenter: VCenter, guests: Guests) -> Iterator[VCenter]:
    yield vcenter
    guests.remove_all()


@pytest.fixture
def options(clean_vcenter: VCenter) -> VmOptions:
    """A place that the simulator offers."""
    from replication.failover.destination import survey_vcenter
    from replication.failover.order import Destination

    survey = survey_vcenter(clean_vcenter, Destination(clean_vcenter.pk), [], takes_defaults=True)
    assert not survey.trouble_text, survey.trouble_text
    return VmOptions(
        vcenter_id=clean_vcenter.pk,
        datacenter=survey.chosen.datacenter,
        resource_pool=survey.resource_pool,
        host=survey.host,
        datastore=survey.chosen.datastore,
        network=survey.chosen.network,
        vm_name="db-01",
        cpus=2,
        memory_bytes=512 * 1024**2,
    )


@pytest.fixture
def page(signed_in: Client, live_server: LiveServer) -> Iterator[Page]:
    """A page of a signed-in administrator, who says yes to every question."""
    with chromium() as browser, page_of(browser, live_server, signed_in) as page:
        page.on("dialog", lambda asked: asked.accept())
        yield page
