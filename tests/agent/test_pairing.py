"""Pairing: the code, its tries, and whom the agent answers afterwards."""

from pathlib import Path

import pytest

from agent.client import AgentClient, pair_with_agent
from agent.errors import (
    AgentCertificateChanged,
    AgentRefusedCore,
    AgentUnreachable,
    PairingClosed,
    WrongPairingCode,
)
from agent.pairing import Pairing
from agent.proof import MAX_WRONG_TRIES
from agent.state import AgentState
from agent.version import VERSION
from tests.places.agent import Core, RunningAgent, make_core


def test_a_core_with_the_code_is_answered_from_then_on(agent: RunningAgent, source: Core) -> None:
    paired = source.pair(agent)

    description = agent.client(source, paired).describe()

    assert description.trusted_cores[0].name == "source-core"
    assert description.snapshot_provider == "file"
    assert [disk.key for disk in description.disks] == ["boot", "data"]
    assert description.hostname == paired.description.hostname
    assert description.agent.version == VERSION


def test_case_dashes_and_spaces_of_a_code_do_not_matter(agent: RunningAgent, source: Core) -> None:
    assert source.pair(agent, "quiet river4711 bend").fingerprint


def test_a_wrong_code_is_refused_and_the_right_one_still_works(
    agent: RunningAgent, source: Core
) -> None:
    with pytest.raises(WrongPairingCode, match=f"{MAX_WRONG_TRIES - 1} tries left"):
        source.pair(agent, "WRONG-CODE-0000")

    assert source.pair(agent).certificate_pem


def test_too_many_wrong_codes_close_pairing_also_after_a_restart(
    agent: RunningAgent, source: Core
) -> None:
    for _ in range(MAX_WRONG_TRIES):
        with pytest.raises(WrongPairingCode):
            source.pair(agent, "WRONG-CODE-0000")

    with pytest.raises(PairingClosed, match="wrong 5 times"):
        source.pair(agent)
    agent.restart()
    with pytest.raises(PairingClosed):
        source.pair(agent)


def test_a_used_code_is_used_up(agent: RunningAgent, source: Core, target: Core) -> None:
    source.pair(agent)

    with pytest.raises(PairingClosed, match="code was used at"):
        target.pair(agent)


def test_a_code_that_was_replaced_in_the_meantime_counts_no_try(tmp_path: Path) -> None:
    pairing = Pairing(AgentState(tmp_path), "FIRST-CODE-1000000")
    pairing.open("SECOND-CODE-200000")

    with pytest.raises(PairingClosed, match="just been replaced"):
        pairing.count_try("FIRST-CODE-1000000")

    assert "5 tries left" in str(pairing.refuse())


def test_an_unknown_core_is_refused(agent: RunningAgent, source: Core, target: Core) -> None:
    paired = source.pair(agent)

    with pytest.raises(AgentRefusedCore, match="does not know this core"):
        agent.client(target, paired).describe()


def test_before_pairing_nothing_but_pairing_is_answered(agent: RunningAgent, source: Core) -> None:
    unpaired = agent.folder / "state" / "agent.pem"
    client = AgentClient("127.0.0.1", agent.port, source.credentials, unpaired.read_text())

    with pytest.raises(AgentRefusedCore):
        client.describe()


def test_a_core_made_known_by_another_is_answered_also_after_a_restart(
    agent: RunningAgent, source: Core, target: Core
) -> None:
    paired = source.pair(agent)
    agent.client(source, paired).trust(target.certificate_pem, target.name)

    agent.restart()

    names = [core.name for core in agent.client(target, paired).describe().trusted_cores]
    assert names == ["source-core", "target-core"]


def test_an_agent_with_another_certificate_is_not_believed(
    agent: RunningAgent, source: Core
) -> None:
    paired = source.pair(agent)
    agent.stop()
    for name in ("agent.pem", "agent.key"):
        (agent.folder / "state" / name).unlink()
    agent.start()

    with pytest.raises(AgentCertificateChanged, match=paired.fingerprint):
        agent.client(source, paired).describe()


def test_an_agent_that_is_down_is_unreachable(agent: RunningAgent, source: Core) -> None:
    paired = source.pair(agent)
    agent.stop()

    with pytest.raises(AgentUnreachable, match="understudy-agent service"):
        agent.client(source, paired).describe()


def test_an_agent_that_is_down_cannot_be_paired(agent: RunningAgent, source: Core) -> None:
    port = agent.port
    agent.stop()

    with pytest.raises(AgentUnreachable):
        pair_with_agent("127.0.0.1", port, "ANY-CODE-1234", source.credentials, "core")


def test_another_key_with_a_trusted_name_is_refused(
    agent: RunningAgent, source: Core, tmp_path_factory: pytest.TempPathFactory
) -> None:
    impostor = make_core(tmp_path_factory.mktemp("impostor"), source.name)
    paired = source.pair(agent)

    with pytest.raises(AgentRefusedCore):
        agent.client(impostor, paired).describe()
