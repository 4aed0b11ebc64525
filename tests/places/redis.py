"""A real Redis."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from celery import current_app

from tests.places.ports import free_port
from tests.places.waiting import wait_until


class RedisServer:
    """A Redis that a test may kill and start again on its port, empty."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(
            [*command, "--dir", str(self.folder)], stdout=subprocess.DEVNULL
        )
        wait_until(self._answers, "Redis")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    @contextlib.contextmanager
    def named_by_settings(self) -> Iterator[None]:
        """Have this process send its wake-ups here; ends the server with the block."""
        current_app.conf.broker_write_url = self.url
        try:
            yield
        finally:
            current_app.conf.broker_write_url = None
            self.kill()

    def _answers(self) -> bool:
        assert self.process.poll() is None, "Redis has ended"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False
