"""A link to a core or an agent that counts what goes over it and can be cut."""

import contextlib
import socket
import threading
from typing import Self


class Link:
    """Forwards TCP to a port. Either limit breaks every connection once, in mid-stream."""

    def __init__(self, target_port: int, cut_after_bytes: int | None = None) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.sent_bytes = 0
        self.received_bytes = 0
        self.cuts = 0
        # Of what was sent to the port, and of what came back.
        self.cut_after_bytes = cut_after_bytes
        self.cut_after_received_bytes: int | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._listener.close()
        self._break_all()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target_port))
            with self._lock:
                self._open |= {near, far}
            for reading, writing, is_sent in ((near, far, True), (far, near, False)):
                threading.Thread(
                    target=self._forward, args=(reading, writing, is_sent), daemon=True
                ).start()

    def _forward(self, reading: socket.socket, writing: socket.socket, is_sent: bool) -> None:
        with contextlib.suppress(OSError):
            while data := reading.recv(65536):
                writing.sendall(data)
                if is_sent:
                    self.sent_bytes += len(data)
                else:
                    self.received_bytes += len(data)
                if _is_over(self.sent_bytes, self.cut_after_bytes) or _is_over(
                    self.received_bytes, self.cut_after_received_bytes
                ):
                    self.cut_after_bytes = self.cut_after_received_bytes = None
                    self.cuts += 1
                    self._break_all()
        for end in (reading, writing):
            with contextlib.suppress(OSError):
                end.close()

    def _break_all(self) -> None:
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                with contextlib.suppress(OSError):
                    end.close()
            self._open.clear()


def _is_over(count_bytes: int, limit_bytes: int | None) -> bool:
    return limit_bytes is not None and count_bytes >= limit_bytes
