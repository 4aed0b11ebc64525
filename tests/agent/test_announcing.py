"""A machine tells its cores where it is: at each start, until they have heard, and only them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.announcing import LONGEST_PAUSE_SECONDS, Announcer
from agent.client import AgentClient
from agent.errors import ProtocolBroken
from agent.home import Home, read_home
from agent.state import MAX_HOMES_OF_A_CORE, AgentState
from agent.tls import ensure_identity, fingerprint_of
from tests.places.agent import Core, RunningAgent
from tests.places.listening_core import MACHINE_ID, ListeningCore, listening_core

BOOT = {"boot_id": "boot-1", "port": 8006, "addresses": ["192.0.2.7"]}


@dataclass
class Machine:
    """An announcing machine whose clock stands still until it is set."""

    folder: Path
    homes: list[Home] = field(default_factory=list)
    told: dict[str, Any] | None = field(default_factory=lambda: dict(BOOT))
    now: float = 0.0

    def __post_init__(self) -> None:
        self.certificate, self.key = ensure_identity(self.folder, "announced")
        self.announcer = Announcer(
            self.certificate, self.key, lambda: self.homes, lambda: self.told, lambda: self.now
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "machine").mkdir()
    return Machine(tmp_path / "machine")


@pytest.fixture
def listening(machine: Machine, source: Core) -> Iterator[ListeningCore]:
    with listening_core(source, machine.certificate) as core:
        machine.homes = [core.home]
        yield core


def test_a_core_hears_once_where_the_machine_is(machine: Machine, listening: ListeningCore) -> None:
    for _ in range(3):
        machine.announcer.look()
        machine.now += LONGEST_PAUSE_SECONDS
    shown = fingerprint_of(machine.certificate.read_text())
    assert listening.heard == [(shown, {**BOOT, "machine_id": MACHINE_ID})]


def test_a_core_hears_again_when_the_addresses_have_changed(
    machine: Machine, listening: ListeningCore
) -> None:
    machine.announcer.look()
    machine.told = {**BOOT, "addresses": ["192.0.2.8"]}
    machine.announcer.look()
    assert [said["addresses"] for _, said in listening.heard] == [["192.0.2.7"], ["192.0.2.8"]]


def test_nothing_is_said_while_file_systems_are_frozen(
    machine: Machine, listening: ListeningCore
) -> None:
    machine.told = None
    machine.announcer.look()
    assert listening.calls == 0


def test_who_does_not_hear_is_told_again_at_a_growing_distance(
    machine: Machine, listening: ListeningCore
) -> None:
    listening.status = 404
    told_at = []
    while machine.now < 6 * LONGEST_PAUSE_SECONDS:
        calls = listening.calls
        machine.announcer.look()
        if listening.calls > calls:
            told_at.append(machine.now)
        machine.now += 1
    pauses = [later - earlier for earlier, later in pairwise(told_at)]
    # Doubled each time, give or take a quarter.
    assert pauses[0] < 5
    assert all(later > 1.1 * earlier - 1 for earlier, later in pairwise(pauses[:8]))
    assert max(pauses) <= 1.25 * LONGEST_PAUSE_SECONDS + 1
    listening.status = 200
    machine.now += 2 * LONGEST_PAUSE_SECONDS
    machine.announcer.look()
    assert len(listening.heard) == 1


def test_another_certificate_at_a_core_s_address_hears_nothing(
    machine: Machine, listening: ListeningCore, target: Core
) -> None:
    machine.homes = [replace(listening.home, certificate_pem=target.certificate_pem)]
    machine.announcer.look()
    assert listening.calls == 0


def test_a_core_is_found_at_any_of_its_addresses(
    machine: Machine, listening: ListeningCore
) -> None:
    dead = [Home("127.0.0.1", 1, listening.home.certificate_pem, MACHINE_ID)]
    machine.homes = [*dead, listening.home, *dead, listening.home]
    machine.announcer.look()
    assert listening.calls == 1


@pytest.mark.parametrize(
    "home",
    [
        "here",
        {},
        {"host": "h", "port": 0, "machine_id": MACHINE_ID},
        {"host": "h", "port": "8001", "machine_id": MACHINE_ID},
        {"host": "h/x", "port": 1, "machine_id": MACHINE_ID},
        {"host": "a b", "port": 1, "machine_id": MACHINE_ID},
        {"host": "h" * 254, "port": 1, "machine_id": MACHINE_ID},
        {"host": "h", "port": 1, "machine_id": "db-01"},
        {"host": "h", "port": 1, "machine_id": None},
    ],
)
def test_an_address_that_is_none_is_refused(home: object) -> None:
    with pytest.raises(ProtocolBroken):
        read_home({"home": home}, "pem", "192.0.2.1")


def test_a_core_that_does_not_know_its_address_is_where_it_calls_from() -> None:
    home = Home("", 8001, "pem", MACHINE_ID)
    assert read_home({"home": home.to_json()}, "pem", "192.0.2.1") == replace(
        home, host="192.0.2.1"
    )
    assert read_home({}, "pem", "192.0.2.1") is None


def test_the_last_addresses_of_trusted_cores_are_remembered(
    tmp_path: Path, source: Core, target: Core
) -> None:
    state = AgentState(tmp_path / "state")
    state.ensure_trusted_core("source", source.certificate_pem)
    homes = [Home(f"h{n}", 8001, _trusted(state), MACHINE_ID) for n in range(6)]
    for home in [*homes, homes[4]]:
        state.remember_home(home)
    state.remember_home(Home("stranger", 8001, target.certificate_pem, MACHINE_ID))
    assert [home.host for home in AgentState(state.folder).homes()] == ["h4", "h5", "h3", "h2"]
    assert MAX_HOMES_OF_A_CORE == 4


def _trusted(state: AgentState) -> str:
    return state.trusted_cores()[0].certificate_pem


@pytest.mark.parametrize("how", ["pair", "describe", "trust"])
def test_an_agent_announces_itself_to_a_core_that_says_where_it_is(
    agent: RunningAgent, source: Core, target: Core, how: str, make_core: Callable[[str], Core]
) -> None:
    certificate = agent.folder / "state/agent.pem"
    with listening_core(target if how == "trust" else source, certificate) as core:
        paired = source.pair(agent, home=replace(core.home, host="") if how == "pair" else None)
        client = agent.client(source, paired)
        if how == "describe":
            address = ("127.0.0.1", agent.port, source.credentials, paired.certificate_pem)
            AgentClient(*address, home=core.home).describe()
        elif how == "trust":
            client.trust(target.certificate_pem, target.name, core.home)
        assert core.is_called.wait(60)
        boot = client.describe().boot_id
        core.is_called.clear()
        agent.restart()
        assert core.is_called.wait(60)
        assert [said["boot_id"] for _, said in core.heard] == [boot, boot]
        assert {said["port"] for _, said in core.heard} == {agent.port}
        assert {shown for shown, _ in core.heard} == {paired.fingerprint}
