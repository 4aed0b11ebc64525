"""Frames between two ends of one TLS connection."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import AgentGone, CoreGone, ProtocolBroken
from agent.protocol import (
    CONTROL,
    DISK_DATA,
    HEADER,
    MAX_DATA_BYTES,
    Channel,
    get_int,
    get_text,
)
from agent.tls import agent_context, core_context, ensure_identity


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Channel, Channel]]:
    """The agent's and the core's end, each with a limit of five seconds."""
    context = agent_context(*ensure_identity(tmp_path, "test"), [])
    agent_socket, core_socket = socket.socketpair()
    made: list[Channel] = []

    def accept() -> None:
        made.append(Channel(context.wrap_socket(agent_socket, server_side=True), 5, CoreGone))

    thread = threading.Thread(target=accept)
    thread.start()
    core = Channel(core_context(None, None).wrap_socket(core_socket), 5, AgentGone)
    thread.join(10)
    yield made[0], core
    made[0].close()
    core.close()


def test_two_sides_that_both_send_do_not_wait_for_each_other(
    ends: tuple[Channel, Channel],
) -> None:
    agent, core = ends
    data = bytes(MAX_DATA_BYTES)
    received: list[int] = []

    def send_and_receive(channel: Channel) -> None:
        for _ in range(3):
            channel.send(DISK_DATA, b"\0\0", data)
        received.append(sum(len(channel.receive().payload) for _ in range(3)))

    threads = [threading.Thread(target=send_and_receive, args=(end,)) for end in (agent, core)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert received == [3 * (MAX_DATA_BYTES + 2)] * 2


def test_a_side_that_only_sends_is_stopped(ends: tuple[Channel, Channel]) -> None:
    agent, core = ends
    data = bytes(MAX_DATA_BYTES)
    failures: list[Exception] = []

    def flood(channel: Channel) -> None:
        try:
            for _ in range(40):
                channel.send(DISK_DATA, b"\0\0", data)
        except (ProtocolBroken, AgentGone, CoreGone) as error:
            failures.append(error)
            channel.close()

    threads = [threading.Thread(target=flood, args=(end,)) for end in (agent, core)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert any(isinstance(failure, ProtocolBroken) for failure in failures)


def test_silence_has_a_limit(ends: tuple[Channel, Channel]) -> None:
    _, core = ends
    core.silence_seconds = 0.2

    with pytest.raises(AgentGone, match=r"silent for 0\.2 seconds"):
        core.receive()


def test_a_frame_that_is_too_long_is_not_even_sent(ends: tuple[Channel, Channel]) -> None:
    agent, _ = ends

    with pytest.raises(ProtocolBroken, match="at most"):
        agent.send(CONTROL, bytes(2 * 1024 * 1024))


@pytest.mark.parametrize(
    "content",
    [HEADER.pack(0, 0), HEADER.pack(255, 5), HEADER.pack(CONTROL, 2**20 + 1)],
)
def test_a_header_that_may_not_be_ends_the_connection(
    ends: tuple[Channel, Channel], content: bytes
) -> None:
    agent, core = ends
    core._send_bytes(content)

    with pytest.raises(ProtocolBroken):
        agent.receive()


@pytest.mark.parametrize("content", [b"[]", b"{}", b'"x"', b"\xff", b"[" * 100_000])
def test_a_message_that_is_no_message_is_refused(
    ends: tuple[Channel, Channel], content: bytes
) -> None:
    agent, core = ends
    core.send(CONTROL, content)

    with pytest.raises(ProtocolBroken):
        agent.receive_control()


def test_a_binary_frame_is_no_message(ends: tuple[Channel, Channel]) -> None:
    agent, core = ends
    core.send(DISK_DATA, b"\0\0")

    with pytest.raises(ProtocolBroken):
        agent.receive_control("describe")


@pytest.mark.parametrize("value", [None, True, "5", 5.0, -1, 11])
def test_numbers_are_checked(value: object) -> None:
    with pytest.raises(ProtocolBroken):
        get_int({"type": "x", "count": value}, "count", 0, 10)


@pytest.mark.parametrize("value", [None, 5, "x" * 11])
def test_texts_are_checked(value: object) -> None:
    with pytest.raises(ProtocolBroken):
        get_text({"type": "x", "name": value}, "name", 10)
