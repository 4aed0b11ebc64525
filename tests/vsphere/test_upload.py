"""Uploads to hosts that stall, break off and answer oddly, and uploads that are stopped."""

import itertools
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.vsphere.disks import MIB, upload_of
from tests.vsphere.hosts import Host, take
from vsphere import DiskUpload
from vsphere.errors import UploadCut, UploadRefused, VSphereUnreachable
from vsphere.upload import Sender, Stopped

BODY = bytes(MIB)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that has not been told yet how to answer."""
    return Host(tmp_path)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What a host waits for that does nothing during the test."""
    event = threading.Event()
    yield event
    event.set()


def wait_until_stuck(sender: Sender) -> None:
    """Return once nothing has been sent for a while."""
    seen: list[int] = []
    while not (len(seen) > 10 and 0 < seen[-10] == seen[-1]):
        assert len(seen) < 3000, "the send does not hang"
        seen.append(sender.sent_bytes)
        time.sleep(0.02)


def test_a_send_that_hangs_can_be_stopped(host: Host, release: threading.Event) -> None:
    endless = DiskUpload(0, 1 << 40, lambda: itertools.repeat(BODY))
    sender = host.sender(endless)
    with ThreadPoolExecutor(1) as pool, host.answering(lambda connection: release.wait(60)):
        sending = pool.submit(sender.send)
        wait_until_stuck(sender)
        sender.stop()
        try:
            assert isinstance(sending.exception(timeout=30), Stopped)
        finally:
            release.set()


def test_waiting_for_the_answer_can_be_stopped(host: Host, release: threading.Event) -> None:
    taken = threading.Event()

    def answer(connection: ssl.SSLSocket) -> None:
        take(connection, len(BODY))
        taken.set()
        release.wait(60)

    sender = host.sender(upload_of(0, BODY))
    with ThreadPoolExecutor(1) as pool, host.answering(answer):
        sending = pool.submit(sender.send)
        assert taken.wait(60)
        sender.stop()
        try:
            assert isinstance(sending.exception(timeout=30), Stopped)
        finally:
            release.set()


def test_a_host_that_closes_without_an_answer_has_confirmed_nothing(host: Host) -> None:
    with (
        host.answering(lambda connection: take(connection, len(BODY))),
        pytest.raises(UploadCut, match="all 1,048,576 bytes were sent"),
    ):
        host.sender(upload_of(0, BODY)).send()


def test_what_a_host_says_before_it_closes_is_told(host: Host) -> None:
    def answer(connection: ssl.SSLSocket) -> None:
        take(connection, MIB)
        connection.sendall(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 5\r\n\r\nfull\n")

    endless = DiskUpload(0, 1 << 40, lambda: itertools.repeat(BODY))
    said = "507 Insufficient Storage: full"
    with host.answering(answer), pytest.raises(UploadRefused, match=said):
        host.sender(endless).send()


def test_a_host_out_of_reach_is_named_with_its_own_address(host: Host) -> None:
    host.close()
    with pytest.raises(VSphereUnreachable, match=f"127.0.0.1:{host.port}.*host's own address"):
        host.sender(upload_of(0, BODY)).send()


def test_what_was_stopped_before_it_began_sends_no_disk(host: Host) -> None:
    received: list[bytes] = []

    def answer(connection: ssl.SSLSocket) -> None:
        while sum(map(len, received)) < len(BODY) and (data := connection.recv(65536)):
            received.append(data)

    sender = host.sender(upload_of(0, BODY))
    sender.stop()
    with host.answering(answer), pytest.raises(Stopped):
        sender.send()
    assert b"".join(received).endswith(b"\r\n\r\n")
