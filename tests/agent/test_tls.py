"""TLS between a core and an agent."""

import socket
import ssl
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from agent.tls import agent_context, core_context, ensure_identity
from tests.places.certificates import TWO_YEARS, dated_certificate


@pytest.fixture
def identity(tmp_path: Path) -> tuple[Path, Path]:
    return ensure_identity(tmp_path, "web-01")


def answer(listener: socket.socket, context: ssl.SSLContext, calls: int) -> None:
    for _ in range(calls):
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(secured.recv(1))


def call(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSocket:
    """Call the agent and read its answer, after which a client holds what it may resume."""
    connection = context.wrap_socket(
        socket.create_connection(("127.0.0.1", port), timeout=30), session=session
    )
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    return connection


def test_no_call_resumes_an_earlier_one_past_the_certificate_check(
    identity: tuple[Path, Path],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = agent_context(*identity, [identity[0].read_text()])
        server = threading.Thread(target=answer, args=(listener, context, 2))
        server.start()
        client = core_context(*identity)
        port = listener.getsockname()[1]
        with call(port, client, None) as first:
            kept = first.session
        with call(port, client, kept) as second:
            assert not second.session_reused
        server.join(30)


@pytest.mark.parametrize("off", [-TWO_YEARS, TWO_YEARS])
def test_a_clock_that_is_off_keeps_no_core_from_an_agent(tmp_path: Path, off: timedelta) -> None:
    core = dated_certificate(tmp_path, "core", off)
    agent = dated_certificate(tmp_path, "agent", off)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = agent_context(*agent, [core[0].read_text()])
        server = threading.Thread(target=answer, args=(listener, context, 1))
        server.start()
        call(listener.getsockname()[1], core_context(*core), None).close()
        server.join(30)
