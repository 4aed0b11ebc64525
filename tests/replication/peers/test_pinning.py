"""A core is known by its certificate alone: not by its dates, and not by who signed it."""

import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from agent.delegation import delegation_name
from console.identity import CoreIdentity, fingerprint_of
from protected_machines.agents.delegation import issue_delegation
from replication.errors import PeerCertificateChanged
from replication.peers.client import PeerClient
from tests.places.certificates import TWO_YEARS, dated_certificate

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@contextmanager
def core_interface(certificate_path: Path, key_path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Answer one call with that certificate; yield the port and what was sent there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_path, key_path)
    received: list[bytes] = []

    def answer() -> None:
        connection, _ = listener.accept()
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            data = b""
            # To close while a part has not been read would reset the connection.
            while not data.endswith(b"}") and (part := secured.recv(65536)):
                data += part
            if data:
                received.append(data)
                secured.sendall(ANSWER)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answer)
        server.start()
        yield listener.getsockname()[1], received
        server.join(30)


def call(port: int, pinned_path: Path) -> None:
    with PeerClient("127.0.0.1", port, pinned_path.read_text(), peer_name="DR site") as client:
        client.restart_rescue_machine(uuid.uuid4(), uuid.uuid4())


@pytest.mark.parametrize("off", [-TWO_YEARS, TWO_YEARS])
def test_a_clock_that_is_off_keeps_no_cores_apart(tmp_path: Path, off: timedelta) -> None:
    identity = dated_certificate(tmp_path, "core", off)
    with core_interface(*identity) as (port, received):
        call(port, identity[0])
    assert received


def test_another_certificate_is_told_nothing(tmp_path: Path) -> None:
    pinned, _ = dated_certificate(tmp_path, "core", timedelta(0))
    other = dated_certificate(tmp_path, "other", timedelta(0))
    with core_interface(*other) as (port, received), pytest.raises(PeerCertificateChanged) as told:
        call(port, pinned)
    assert f"DR site at 127.0.0.1:{port} shows a different certificate" in str(told.value)
    assert not received


def test_a_delegation_does_not_pass_for_the_core_that_signed_it(tmp_path: Path) -> None:
    """A core signs delegations with the key of its own certificate."""
    pinned, key = dated_certificate(tmp_path, "core", timedelta(0))
    holder, holder_key = dated_certificate(tmp_path, "holder", timedelta(0))
    core = CoreIdentity(
        "", "core", pinned, key, pinned.read_text(), fingerprint_of(pinned.read_text())
    )
    delegation = tmp_path / "delegation.pem"
    delegation.write_text(
        issue_delegation(core, holder.read_text(), "holder", delegation_name("0" * 64, 1))
    )
    with core_interface(delegation, holder_key) as served, pytest.raises(PeerCertificateChanged):
        call(served[0], pinned)
    assert not served[1]
