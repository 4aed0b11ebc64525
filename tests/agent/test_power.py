"""A trusted core restarts a machine or shuts it down: once for a boot, and never a frozen one."""

from pathlib import Path

import pytest

from agent.client import AgentClient
from agent.errors import AgentBusy, RequestRefused
from agent.power import LocalPower
from tests.agent.folder_sink import FolderSink
from tests.places.agent import Core, RunningAgent


@pytest.fixture
def client(agent: RunningAgent, source: Core) -> AgentClient:
    return agent.client(source, source.pair(agent))


def mark(agent: RunningAgent, act: str) -> Path:
    return agent.folder / "state" / f"told-to-{act}"


@pytest.mark.parametrize("act", ["restart", "power_off"])
def test_a_machine_is_told_once_for_a_boot(
    agent: RunningAgent, client: AgentClient, act: str
) -> None:
    tell = getattr(client, act)
    assert not tell("an earlier boot")
    assert not mark(agent, act).exists()
    assert tell(client.describe().boot_id)
    assert mark(agent, act).exists()


def test_a_machine_that_is_held_frozen_is_left_alone(
    agent: RunningAgent, client: AgentClient, tmp_path: Path
) -> None:
    client.take_snapshot(FolderSink(tmp_path / "point"), hold_seconds=60)
    boot_id = client.describe().boot_id
    with pytest.raises(AgentBusy, match="held frozen"):
        client.restart(boot_id)
    assert client.release_hold()
    assert client.restart(boot_id)


def test_a_rescue_machine_refuses(rescue: RunningAgent, source: Core) -> None:
    client = rescue.client(source, source.pair(rescue))
    with pytest.raises(RequestRefused, match="mode 'restore'"):
        client.power_off(client.describe().boot_id)


def test_a_machine_without_the_commands_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RequestRefused, match=r"cannot power off: systemctl .*; shutdown -h now: "):
        LocalPower().do("power_off")
