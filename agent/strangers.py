"""Connections of callers that the agent does not know yet: a few at a time.

Whoever has not shown a certificate that the agent trusts, or is pairing, is a stranger. A stranger
may be silent and still hold a thread. When there are too many, the oldest has to go: a core shows
who it is within milliseconds, so it is never the oldest for long.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

MAX_STRANGERS = 16


class Strangers:
    """The open connections of strangers, oldest first. Thread-safe."""

    def __init__(self, limit: int = MAX_STRANGERS) -> None:
        self._limit = limit
        self._open: dict[socket.socket, None] = {}
        self._lock = threading.Lock()

    def admit(self, connection: socket.socket) -> None:
        """Let a caller in, at the cost of the oldest if there are too many.

        The thread of the one that goes finds its connection shut down, and closes it.
        """
        with self._lock:
            while len(self._open) >= self._limit:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):
                    # An SSLSocket's own shutdown would pull the TLS state away from its thread.
                    socket.socket.shutdown(oldest, socket.SHUT_RDWR)
            self._open[connection] = None

    def leave(self, connection: socket.socket) -> None:
        """Count a caller no longer: it has ended, or the agent knows it now. Idempotent."""
        with self._lock:
            self._open.pop(connection, None)
