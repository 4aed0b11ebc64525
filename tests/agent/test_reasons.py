"""Why a connection failed, in words for people, wherever it was made."""

import errno
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from agent.client import AgentClient
from agent.errors import AgentUnreachable
from agent.reasons import reason_of
from console.identity import this_core
from protected_machines.agents.connection import core_credentials
from replication.errors import PeerUnreachable
from replication.peers.client import PeerClient, fetch_certificate
from vsphere.door import Credentials, Door
from vsphere.errors import VSphereError, VSphereUnreachable
from vsphere.tls import fetch_thumbprint

FAULTS = [
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "it refuses connections"),
    (TimeoutError("timed out"), "in time"),
    (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "in time"),
    (OSError(errno.EHOSTUNREACH, "No route to host"), "there is no route to it"),
    (OSError(errno.ENETUNREACH, "Network is unreachable"), "there is no route to it"),
    (socket.gaierror(-2, "Name or service not known"), "its name cannot be resolved"),
    (
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        "it closed the connection",
    ),
]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        *((error, reason) for error, reason in FAULTS if reason != "in time"),
        (TimeoutError("timed out"), "it did not answer in time"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "it closed the connection"),
        (http.client.RemoteDisconnected("without response"), "it closed the connection"),
        (ssl.SSLEOFError(8, "EOF occurred"), "it closed the connection"),
        (UnicodeError("label too long"), "its name cannot be resolved"),
        (OSError(errno.ENOBUFS, "No buffer space available"), "No buffer space available"),
        (ValueError("anything else"), "anything else"),
        (ValueError(), "ValueError"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_the_reason_is_in_words(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason


def call_agent(port: int) -> None:
    pem = this_core().certificate_pem
    AgentClient("127.0.0.1", port, core_credentials(), pem, 5).describe()


def call_core(port: int) -> None:
    with PeerClient("127.0.0.1", port, this_core().certificate_pem) as client:
        client.status()


def sign_in(port: int) -> None:
    Door(Credentials("127.0.0.1", port, "user", "password", "AA" * 32), 5).open()


CALLS: list[tuple[Callable[[int], object], type[Exception]]] = [
    (call_agent, AgentUnreachable),
    (call_core, PeerUnreachable),
    (lambda port: fetch_certificate("127.0.0.1", port), PeerUnreachable),
    (lambda port: fetch_thumbprint("127.0.0.1", port), VSphereUnreachable),
    (sign_in, VSphereError),
]
each_call = pytest.mark.parametrize(
    ("call", "kind"), CALLS, ids=["agent", "core", "certificate", "thumbprint", "vsphere"]
)


@each_call
@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=range(len(FAULTS)))
def test_each_caller_tells_it(
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[int], object],
    kind: type[Exception],
    fault: OSError,
    reason: str,
) -> None:
    def fail(*_address: object, **_options: object) -> socket.socket:
        raise fault

    monkeypatch.setattr(socket, "create_connection", fail)
    # It has a name of its own for that.
    monkeypatch.setattr(ssl, "create_connection", fail)
    with pytest.raises(kind) as raised:
        call(1)
    assert reason in str(raised.value)
    assert_is_for_people(str(raised.value))


@pytest.fixture
def slamming() -> Iterator[int]:
    """The port of a server that closes each connection at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def slam() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=slam, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(30)


@each_call
def test_a_connection_that_is_closed_in_the_middle_is_told(
    slamming: int, call: Callable[[int], object], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as raised:
        call(slamming)
    assert "it closed the connection" in str(raised.value)
    assert_is_for_people(str(raised.value))


def assert_is_for_people(text: str) -> None:
    assert not any(word in text for word in ("Errno", "_ssl.c", "Error(", "[SSL"))


def test_a_library_s_error_tells_the_reason_by_its_cause() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(httpx.ConnectError) as raised:
        httpx.get(f"http://127.0.0.1:{port}", trust_env=False)
    assert reason_of(raised.value) == "it refuses connections"
