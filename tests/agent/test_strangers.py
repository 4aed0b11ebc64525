"""Without the code, a core gets nothing from an agent, nor an agent from a core."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.client import pair_with_agent
from agent.client.connection import connected, receive_message
from agent.errors import AgentRefusedCore, ProtocolBroken, WrongPairingCode
from agent.protocol import Channel, Message
from agent.strangers import MAX_STRANGERS
from agent.tls import fingerprint_of
from tests.agent.hostile_agent import HELLO, answering_once
from tests.places.agent import CODE, Core, RunningAgent
from tests.places.waiting import wait_until

STRANGER_HELLO = {**HELLO, "is_trusted": False}
CHALLENGE = {"type": "pair_challenge", "salt": "00" * 16, "nonce": "11" * 32}
CLIENT_HELLO_BEGINS = bytes.fromhex("160301020001")
PROTECTING = ("take_snapshot", "extend_hold", "release_hold", "end_watch")
RESTORING = ("restore_disk", "restore_state", "finish_restore", "restart_from_disk")


def ask_as_a_stranger(running: RunningAgent, request: Message) -> Message:
    """Send a request that the client would never send: it has no certificate."""
    with connected("127.0.0.1", running.port, None, 30) as (channel, _):
        channel.send_control(request)
        return receive_message(channel)


@pytest.mark.parametrize("kind", ["describe", "trust", *PROTECTING, *RESTORING, "anything"])
def test_an_agent_answers_no_stranger(agent: RunningAgent, kind: str) -> None:
    with pytest.raises(AgentRefusedCore, match="only cores it is paired with"):
        ask_as_a_stranger(agent, {"type": kind, "disks": []})


@pytest.mark.parametrize("kind", ["describe", "trust", *RESTORING])
def test_a_rescue_machine_answers_no_stranger(rescue: RunningAgent, kind: str) -> None:
    with pytest.raises(AgentRefusedCore, match="only cores it is paired with"):
        ask_as_a_stranger(rescue, {"type": kind, "number": 0})
    assert not (rescue.folder / "state/restarted").exists()


@pytest.mark.parametrize("is_reflected", [True, False])
def test_a_core_pairs_with_no_agent_that_does_not_know_the_code(
    source: Core, tmp_path: Path, is_reflected: bool
) -> None:
    """An agent without the code can make up a proof, or give the core's own back."""

    def script(channel: Channel) -> None:
        channel.send_control(STRANGER_HELLO)
        channel.receive_control("pair")
        channel.send_control(CHALLENGE)
        sent = channel.receive_control("pair_proof")["proof"]
        proof = sent if is_reflected else "00" * 32
        channel.send_control({"type": "paired", "proof": proof, "description": {}})
        channel.receive()

    with (
        answering_once(tmp_path, source, script) as port,
        pytest.raises(WrongPairingCode, match="does not know the code"),
    ):
        pair_with_agent("127.0.0.1", port, CODE, source.credentials, source.name)


@pytest.mark.parametrize("name", ["salt", "nonce"])
def test_a_challenge_that_is_not_hex_is_refused(source: Core, tmp_path: Path, name: str) -> None:
    def script(channel: Channel) -> None:
        channel.send_control(STRANGER_HELLO)
        channel.receive_control("pair")
        channel.send_control({**CHALLENGE, name: "no hex"})
        channel.receive()

    with (
        answering_once(tmp_path, source, script) as port,
        pytest.raises(ProtocolBroken, match=f"{name} is not hex"),
    ):
        pair_with_agent("127.0.0.1", port, CODE, source.credentials, source.name)


@pytest.mark.parametrize(
    "wrong",
    [{"nonce": "no hex"}, {"nonce": "00" * 31}, {"core_certificate_pem": "no certificate"}],
)
def test_a_request_to_pair_that_is_wrong_costs_no_try(
    agent: RunningAgent, source: Core, wrong: Message
) -> None:
    request = {
        "type": "pair",
        "core_name": source.name,
        "core_certificate_pem": source.certificate_pem,
        "nonce": "00" * 32,
    }
    for _ in range(6):
        with pytest.raises(ProtocolBroken):
            ask_as_a_stranger(agent, {**request, **wrong})
    assert source.pair(agent).fingerprint


def test_a_relay_between_the_two_pairs_with_neither(
    agent: RunningAgent, source: Core, tmp_path: Path
) -> None:
    """A relay shows its own certificate, which the proofs cover."""

    def script(channel: Channel) -> None:
        channel.send_control(STRANGER_HELLO)
        with connected("127.0.0.1", agent.port, None, 30) as (onward, _):
            onward.send_control(channel.receive_control("pair"))
            channel.send_control(onward.receive_control())
            onward.send_control(channel.receive_control("pair_proof"))
            channel.send_control(onward.receive_control())
        channel.receive()

    with (
        answering_once(tmp_path, source, script) as port,
        pytest.raises(WrongPairingCode, match="tries left"),
    ):
        pair_with_agent("127.0.0.1", port, CODE, source.credentials, source.name)
    assert [core.name for core in source.pair(agent).description.trusted_cores] == [source.name]


@pytest.mark.parametrize("first_bytes", [b"", CLIENT_HELLO_BEGINS], ids=["silent", "half a hello"])
def test_silent_strangers_keep_no_core_out(
    agent: RunningAgent, source: Core, first_bytes: bytes
) -> None:
    paired = source.pair(agent)
    with ExitStack() as stack:
        for _ in range(4 * MAX_STRANGERS):
            stranger = socket.create_connection(("127.0.0.1", agent.port), timeout=30)
            stack.enter_context(stranger)
            stranger.sendall(first_bytes)
            client = agent.client(source, paired)
            assert client.describe().trusts(fingerprint_of(source.certificate_pem))
        wait_until(lambda: "connection ended" in agent.log(), "the oldest strangers to go")
