"""gunicorn's threaded worker behind `front`: a thread never waits for a caller that is unknown."""

import socket

from django.db import close_old_connections
from gunicorn.workers.gthread import TConn, ThreadWorker

from replication.api.core_tls import CoreTls
from replication.api.front import Front
from replication.api.gate import find_caller


class GuardedThreads(ThreadWorker):  # type: ignore[misc]
    """Gets its connections from the front instead of accepting them; everything else is gunicorn's.

    Follows gunicorn 27: `accept` counts a connection, wraps it in a TConn and enqueues it.
    """

    _front: Front | None = None

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start and stop the front where gunicorn starts and stops accepting."""
        if enabled and self._front is None:
            tls = CoreTls()
            tls.start()
            self._front = Front(lambda: tls.context, is_known, self._admit)
            self._front.start([listener.sock for listener in self.sockets])
        elif not enabled and self._front is not None and not self.alive:
            self._front.stop()
        self._accepting = enabled

    def _admit(self, connection: socket.socket, address: tuple[str, int]) -> None:
        self.method_queue.defer(self._enqueue, connection, address)

    def _enqueue(self, connection: socket.socket, address: tuple[str, int]) -> None:
        self.nr_conns += 1
        server = self.sockets[0].getsockname()
        self.enqueue_req(TConn(self.cfg, connection, address, server))


def is_known(authorization: str) -> bool:
    """Return whether the header shows the secret of a pairing. For threads without a request."""
    try:
        return find_caller(authorization) is not None
    finally:
        close_old_connections()
