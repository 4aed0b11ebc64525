"""The state folder: a damaged file is named, and the number of trusted cores is limited."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import ConfigurationWrong, RequestRefused
from agent.state import MAX_TRUSTED_CORES, AgentState, PairingState
from agent.tls import ensure_identity


@pytest.fixture
def state(tmp_path: Path) -> AgentState:
    return AgentState(tmp_path / "state")


def certificate(folder: Path) -> str:
    folder.mkdir()
    return ensure_identity(folder, "core")[0].read_text()


def test_what_was_saved_is_read_by_the_next_start(state: AgentState, tmp_path: Path) -> None:
    pairing = PairingState(code="GIVEN-CODE-1", wrong_tries=2)
    state.save_pairing(pairing)
    core = state.ensure_trusted_core("first name", certificate(tmp_path / "core"))
    state.save_restores({"boot": {"token": "t"}})

    later = AgentState(state.folder)

    assert later.find_pairing() == pairing
    assert later.trusted_cores() == [core]
    assert later.find_restores() == {"boot": {"token": "t"}}
    assert {path.stat().st_mode & 0o777 for path in state.folder.iterdir()} == {0o600}


def test_nothing_is_known_before_the_first_start(state: AgentState) -> None:
    assert state.find_pairing() is None
    assert state.trusted_cores() == []
    assert state.find_restores() is None


def test_a_core_that_is_trusted_again_only_gets_its_new_name(
    state: AgentState, tmp_path: Path
) -> None:
    pem = certificate(tmp_path / "core")
    state.ensure_trusted_core("first name", pem)
    state.ensure_trusted_core("second name", pem)

    assert [core.name for core in state.trusted_cores()] == ["second name"]


def test_the_number_of_trusted_cores_is_limited(state: AgentState, tmp_path: Path) -> None:
    first, second = certificate(tmp_path / "first"), certificate(tmp_path / "second")
    core = state.ensure_trusted_core("first", first)
    entries = [{**vars(core), "fingerprint": f"{number:064x}"} for number in range(15)]
    (state.folder / "trusted-cores.json").write_text(json.dumps([vars(core), *entries]))
    assert len(state.trusted_cores()) == MAX_TRUSTED_CORES

    with pytest.raises(RequestRefused, match="16 cores are already trusted"):
        state.ensure_trusted_core("second", second)

    # One that is already trusted may still be renamed.
    assert state.ensure_trusted_core("renamed", first).name == "renamed"


@pytest.mark.parametrize("content", ["{", '[{"name": 1}]', '{"token": 1}', "[1]", "7"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("trusted-cores.json", AgentState.trusted_cores),
        ("pairing.json", AgentState.find_pairing),
        ("restores.json", AgentState.find_restores),
    ],
)
def test_a_damaged_file_is_named(
    state: AgentState, name: str, read: Callable[[AgentState], object], content: str
) -> None:
    if (name, content) == ("restores.json", '{"token": 1}'):
        content = "[]"
    (state.folder / name).write_text(content)

    with pytest.raises(ConfigurationWrong, match=name):
        read(state)


def test_a_file_that_cannot_be_read_is_named(state: AgentState) -> None:
    (state.folder / "pairing.json").mkdir()

    with pytest.raises(ConfigurationWrong, match=r"pairing\.json: .*Is a directory"):
        state.find_pairing()
