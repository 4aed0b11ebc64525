"""Callers that are silent, slow or too large cost a paired core nothing. Real connections."""

import resource
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from replication.errors import PeerRefusedSecret
from replication.models import Pairing
from replication.peers.client import PeerClient
from replication.peers.connection import speaking_with
from replication.peers.credentials import show_pairing
from replication.peers.pairing import add_target_core
from tests.places.peer_core import PeerCore

ANSWER_SECONDS = 10


@pytest.fixture
def outgoing(peer: PeerCore, db: None) -> Pairing:
    return add_target_core("127.0.0.1", peer.port, peer.pairing_code)


@pytest.fixture
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[1], 8192), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def plain(peer: PeerCore) -> socket.socket:
    return socket.create_connection(("127.0.0.1", peer.port), timeout=30)


def secured(peer: PeerCore) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain(peer))


@contextmanager
def dripping(connections: list[ssl.SSLSocket], data: bytes) -> Iterator[None]:
    """Send a byte on each now and then."""
    is_over = threading.Event()

    def drip() -> None:
        for byte in data:
            for connection in connections:
                try:
                    connection.send(bytes([byte]))
                except OSError:
                    continue
            if is_over.wait(1):
                return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_a_flood_of_silent_and_slow_callers_leaves_a_paired_core_its_answer(
    peer: PeerCore, outgoing: Pairing, many_files: None
) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    fake = f"Authorization: Understudy {outgoing.pk}:wrong\r\n".encode()
    with ExitStack() as stack:
        for number in range(1000):
            connection = stack.enter_context(plain(peer))
            if number % 2:
                connection.sendall(hello)
        slow = [stack.enter_context(secured(peer)) for _ in range(100)]
        for number, connection in enumerate(slow):
            if number % 2:
                head = b"POST /api/v1/pair HTTP/1.1\r\nHost: x\r\nContent-Length: 8000\r\n\r\n"
            else:
                head = b"PUT /api/v1/status HTTP/1.1\r\nHost: x\r\n" + fake
            connection.sendall(head)
        with dripping(slow, b"X-Slow: " + b"a" * 60):
            for _ in range(3):
                with speaking_with(outgoing, answer_timeout_seconds=ANSWER_SECONDS) as client:
                    assert client.status().core_id == peer.core_id


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"])
def test_a_caller_without_a_handshake_is_let_go(peer: PeerCore, sent: bytes) -> None:
    with plain(peer) as connection:
        connection.sendall(sent)
        assert connection.recv(1000) == b""


def test_a_head_that_never_ends_is_let_go(peer: PeerCore) -> None:
    with secured(peer) as connection:
        connection.sendall(b"GET /api/v1/status HTTP/1.1\r\n")
        with pytest.raises((ssl.SSLEOFError, ConnectionError)):
            _read_until_closed(connection)


def test_a_head_larger_than_a_few_kib_is_let_go(peer: PeerCore) -> None:
    with secured(peer) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")
        with pytest.raises((ssl.SSLEOFError, ConnectionError)):
            _read_until_closed(connection)


def test_a_stranger_is_refused_without_reading_its_body(peer: PeerCore, outgoing: Pairing) -> None:
    with (
        PeerClient(
            *("127.0.0.1", peer.port, outgoing.peer_certificate_pem),
            authorization=show_pairing(outgoing.pk, "wrong"),
        ) as client,
        pytest.raises(PeerRefusedSecret),
    ):
        client.begin_replica(uuid.uuid4(), b"x" * 30_000_000)


@pytest.mark.parametrize("wish", [b"", b"Connection: keep-alive\r\n"])
def test_a_stranger_is_told_that_each_answer_is_the_last(peer: PeerCore, wish: bytes) -> None:
    with secured(peer) as connection:
        connection.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n" + wish + b"\r\n")
        head, _, _ = connection.recv(1000).partition(b"\r\n\r\n")
    assert b"401" in head.splitlines()[0]
    assert b"connection: close" in head.lower().splitlines()


def _read_until_closed(connection: ssl.SSLSocket) -> None:
    deadline = time.monotonic() + 60
    while connection.recv(1000):
        assert time.monotonic() < deadline
    raise ConnectionResetError("closed")
