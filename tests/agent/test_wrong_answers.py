"""Each field of each answer of an agent, wrong in type, size and value: a typed error, no more.

A field is tried because it is in the example of its message; a call that is missing here fails.
"""

import inspect
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from agent.client import AgentClient, pair_with_agent
from agent.errors import AgentError, CoreGone
from agent.protocol import Channel
from agent.tls import agent_context, ensure_identity
from tests.agent.folder_sink import FolderSink
from tests.agent.hostile_agent import BEGIN, HELLO, TAKEN
from tests.agent.wrong_descriptions import example
from tests.places.agent import Core

Message = dict[str, Any]
Call = Callable[[AgentClient, Path], object]
EMPTY = blake3(b"").hexdigest()


class NoGrains:
    """The plan of a disk of which nothing has to be sent."""

    capacity_bytes, data_bytes = 512, 0

    def left_bytes(self, from_grain: int) -> int:
        return 0

    def read_runs(self, from_grain: int = 0) -> Iterator[Any]:
        return iter(())


# What an agent answers to each call, one message after the other.
ANSWERS: dict[str, tuple[Call, list[Message]]] = {
    "describe": (
        lambda agent, _: agent.describe(),
        [{"type": "description", "description": example()}],
    ),
    "trust": (lambda agent, _: agent.trust("pem", "DR site"), [{"type": "trusted"}]),
    "withdraw_delegations": (
        lambda agent, _: agent.withdraw_delegations(1),
        [{"type": "delegations_withdrawn"}],
    ),
    "take_snapshot": (
        lambda agent, folder: agent.take_snapshot(FolderSink(folder), hold_seconds=60),
        [
            {**TAKEN, "description": example()},
            {"type": "progress", "done_bytes": 1, "total_bytes": 2},
            BEGIN,
            {"type": "finish_disk", "number": 0, "length_bytes": 0, "digest": EMPTY},
            {"type": "snapshot_done", "is_held": True, "is_watched": True, "why_whole": "new"},
        ],
    ),
    "extend_hold": (lambda agent, _: agent.extend_hold(), [{"type": "held", "hold_seconds": 60}]),
    "release_hold": (
        lambda agent, _: agent.release_hold(),
        [{"type": "released", "was_held": True}],
    ),
    "end_watch": (
        lambda agent, _: agent.end_watch(),
        [{"type": "watch_ended", "was_watched": True}],
    ),
    "restart": (
        lambda agent, _: agent.restart("boot"),
        [{"type": "power_changing", "is_changing": True}],
    ),
    "power_off": (
        lambda agent, _: agent.power_off("boot"),
        [{"type": "power_changing", "is_changing": True}],
    ),
    "restore_disk": (
        lambda agent, _: agent.restore_disk(0, NoGrains(), "token"),
        [
            {"type": "restore_ready", "next_grain": 0, "is_done": False},
            {"type": "disk_done", "next_grain": 1},
        ],
    ),
    "restore_state": (
        lambda agent, _: agent.restore_state("token"),
        [
            {
                "type": "restore_state",
                "disks": [{"number": 0, "next_grain": 1, "is_done": True}],
            }
        ],
    ),
    "finish_restore": (
        lambda agent, _: agent.finish_restore("token"),
        [{"type": "restore_finished"}],
    ),
    "restart_from_disk": (lambda agent, _: agent.restart_from_disk(), [{"type": "restarting"}]),
}
# What is missing here has a meaning: older agents do not say it.
MAY_BE_MISSING = {
    *("is_held", "is_watched", "why_whole", "was_held", "was_watched", "is_done", "is_changing"),
}


def wrong_values(value: object, place: str) -> Iterator[tuple[str, object]]:
    """Yield what may not stand where `value` does."""
    wrong: list[object] = [[], {}, 7, 7.5, "wo\0rd", "x" * 5_000, -1, 10**30, True]
    if isinstance(value, dict):
        wrong = [[], 7, "word"]
    elif isinstance(value, list):
        wrong = [{}, 7, "word", [7], [[]]]
    elif isinstance(value, bool):
        wrong = [7, "yes", [], {}]
    elif isinstance(value, int):
        wrong = ["7", 7.5, True, [], {}, -1, 10**30]
    elif place == "type":
        wrong = [7, [], {}, "x" * 5_000, "surprise"]
    elif isinstance(value, str):
        wrong = [7, [], {}, True, "wo\0rd", "x" * 5_000]
    # In Python, true is 1.
    yield from ((place, one) for one in wrong if one != value)


def wrong_messages(valid: Message) -> Iterator[tuple[str, Message]]:
    """Yield the message with each field in turn missing or wrong."""
    for name, value in valid.items():
        if name not in MAY_BE_MISSING:
            yield name, {key: other for key, other in valid.items() if key != name}
        for place, wrong in wrong_values(value, name):
            yield place, {**valid, name: wrong}
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for inner, entry in wrong_messages(value[0]):
                yield f"{name}.{inner}", {**valid, name: [entry]}


@contextmanager
def answering(folder: Path, core: Core) -> Iterator[tuple[AgentClient, list[list[Message]]]]:
    """An agent that says, at each connection, the last of the lists of messages."""
    certificate_path, key_path = ensure_identity(folder, "hostile")
    context = agent_context(certificate_path, key_path, [core.certificate_pem])
    scripts: list[list[Message]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                # The client hangs up when it has had enough.
                with suppress(AgentError, OSError), closing(connection):
                    connection.settimeout(30)
                    with context.wrap_socket(connection, server_side=True) as tls_socket:
                        say(Channel(tls_socket, 30, CoreGone), scripts.pop())

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        client = AgentClient(
            "127.0.0.1",
            listener.getsockname()[1],
            core.credentials,
            certificate_path.read_text(),
            10,
        )
        yield client, scripts
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(30)
        assert not thread.is_alive()


def say(channel: Channel, messages: list[Message]) -> None:
    channel.send_control(messages[0])
    channel.receive()
    for message in messages[1:]:
        channel.send_control(message)
    channel.drain(10)


def test_each_call_of_a_client_is_here() -> None:
    public = {
        name
        for name, _ in inspect.getmembers(AgentClient, inspect.isfunction)
        if not name.startswith("_")
    }
    assert ANSWERS.keys() == public


@pytest.mark.parametrize("call", ANSWERS)
def test_what_an_agent_says_wrongly_is_an_error_of_the_agent(
    call: str, source: Core, tmp_path: Path
) -> None:
    ask, valid = ANSWERS[call]
    # Its version is for people who read the connection.
    hello = {name: value for name, value in HELLO.items() if name != "version"}
    conversation = [hello, *valid]
    with answering(tmp_path, source) as (client, scripts):
        scripts.append(conversation)
        ask(client, tmp_path / "right")
        for number, message in enumerate(conversation):
            if message is hello and call != "describe":
                continue
            for tried, (place, wrong) in enumerate(wrong_messages(message)):
                scripts.append([*conversation[:number], wrong, *conversation[number + 1 :]])
                with pytest.raises(AgentError) as refused:
                    ask(client, tmp_path / f"{number}-{tried}")
                assert len(str(refused.value)) < 1_000, (message["type"], place)
                assert "\0" not in str(refused.value), (message["type"], place)


def test_what_an_agent_says_wrongly_while_pairing_is_an_error_of_the_agent(
    source: Core, tmp_path: Path
) -> None:
    challenge = {"type": "pair_challenge", "salt": "00" * 16, "nonce": "00" * 32}
    paired = {"type": "paired", "proof": "0" * 64, "description": example()}
    with answering(tmp_path, source) as (client, scripts):
        for messages in (
            *([HELLO, wrong, paired] for _, wrong in wrong_messages(challenge)),
            # Nobody who does not know the code has its description read.
            *([HELLO, challenge, wrong] for _, wrong in wrong_messages(paired)),
        ):
            scripts.append(messages)
            with pytest.raises(AgentError) as refused:
                pair_with_agent(
                    "127.0.0.1", client._port, "code", source.credentials, "Test core", 10
                )
            assert len(str(refused.value)) < 1_000
