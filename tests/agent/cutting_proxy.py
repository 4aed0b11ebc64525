"""A link between a core and an agent that breaks after so many bytes."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT_SECONDS = 30


class CuttingProxy:
    """Passes each connection on; the bytes from the core are counted over all of them.

    cut_after_bytes: break the connection then, once; None passes everything.
    """

    def __init__(self, agent_port: int, cut_after_bytes: int | None) -> None:
        self._agent_port = agent_port
        self.cut_after_bytes = cut_after_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                core, _ = self._listener.accept()
            except OSError:
                return
            agent = socket.create_connection(("127.0.0.1", self._agent_port), LIMIT_SECONDS)
            self._sockets += [core, agent]
            for reading, writing, counts in ((core, agent, True), (agent, core, False)):
                thread = threading.Thread(target=self._pass, args=(reading, writing, counts))
                thread.start()
                self._threads.append(thread)

    def _pass(self, reading: socket.socket, writing: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := reading.recv(16 * 1024):
                if counts and self._is_cut(len(data)):
                    break
                writing.sendall(data)
        for side in (reading, writing):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _is_cut(self, count_bytes: int) -> bool:
        if self.cut_after_bytes is None:
            return False
        self.cut_after_bytes -= count_bytes
        if self.cut_after_bytes > 0:
            return False
        self.cut_after_bytes = None
        return True

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(LIMIT_SECONDS)
        for side in self._sockets:
            side.close()


@contextmanager
def cutting_proxy(agent_port: int, cut_after_bytes: int | None) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(agent_port, cut_after_bytes)
    try:
        yield proxy
    finally:
        proxy.close()
