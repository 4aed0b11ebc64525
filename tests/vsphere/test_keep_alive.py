"""What keeps a lease open, and what it makes of a server that no longer wants to."""

import contextlib
import socket
import time
from collections.abc import Callable

from tests.vsphere.leases import Lease
from vsphere.api import vim
from vsphere.keep_alive import KeepAlive


def keeping(lease: Lease) -> KeepAlive:
    """Return a keep-alive that calls every fifth of a second."""
    calls = lease.world.session.calls
    stub = calls.door.second_stub(calls.stub)
    return KeepAlive(vim.HttpNfcLease(lease.managed._moId, stub), 1)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_broken_connection_does_not_end_it(lease: Lease) -> None:
    requests: list[bytes] = []
    with keeping(lease) as keep_alive:
        stub = keep_alive.lease._stub
        wait_until(lambda: bool(stub.pool))
        for connection, _ in list(stub.pool):
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        stub.requestModifierList.append(lambda request: (requests.append(request), request)[1])
        wait_until(lambda: len(requests) >= 3)
    assert keep_alive.fault is None
    assert lease.state == "ready"


def test_it_keeps_what_the_server_answered_to_the_end_of_a_lease(lease: Lease) -> None:
    with keeping(lease) as keep_alive:
        lease.world.vcsim.faults(expire_leases=True)
        wait_until(lambda: keep_alive.fault is not None)
    assert isinstance(keep_alive.fault, vim.fault.Timedout)
