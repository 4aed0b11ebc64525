"""What keeps a lease open, and what it makes of a server that no longer wants to."""

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from lab.vcsim.process import Vcsim
from tests.vsphere.conftest import credentials_of
from tests.vsphere.leases import Lease, open_lease
from tests.vsphere.site import World
from vsphere import connect
from vsphere.api import vim
from vsphere.keep_alive import KeepAlive


@pytest.fixture
def short(start: Callable[..., Vcsim]) -> Iterator[Lease]:
    """An open lease that lives for a second without a word."""
    simulator = start(lease_timeout=1)
    with connect(credentials_of(simulator)) as session:
        one = open_lease(World(simulator, session))
        assert one.wait() == "ready"
        yield one


def keeping(lease: Lease) -> KeepAlive:
    calls = lease.world.session.calls
    stub = calls.door.second_stub(calls.stub)
    return KeepAlive(vim.HttpNfcLease(lease.managed._moId, stub), 1)


def test_a_broken_connection_does_not_end_it(short: Lease) -> None:
    with keeping(short) as keep_alive:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            for connection, _ in list(keep_alive.lease._stub.pool):
                connection.sock.shutdown(socket.SHUT_RDWR)
            time.sleep(0.3)
        assert keep_alive.fault is None
        assert short.state == "ready"


def test_it_keeps_what_the_server_answered_to_the_end_of_a_lease(short: Lease) -> None:
    with keeping(short) as keep_alive:
        short.world.vcsim.faults(expire_leases=True)
        deadline = time.monotonic() + 60
        while keep_alive.fault is None and time.monotonic() < deadline:
            time.sleep(0.05)
    assert isinstance(keep_alive.fault, vim.fault.Timedout)
