"""Real Celery workers for live tests, on the test's own database and Redis."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from celery import current_app
from django.db import connection

ROOT = Path(__file__).resolve().parents[3]
LEASE_SECONDS = 2


@dataclass
class WorkerProcess:
    """A worker with its children, in a process group of its own."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def kill(self) -> None:
        """Kill -9 it with all its children, as a power cut would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)


@contextlib.contextmanager
def worker(redis_url: str, folder: Path, *options: str) -> Iterator[WorkerProcess]:
    """Run a worker for the block; it is ready to take jobs when the block begins."""
    log = folder / f"worker-{time.monotonic_ns()}.log"
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "console",
        "worker",
        "-I",
        "tests.console.jobs.demo",
    ]
    command += ["-Q", "control", "--loglevel", "INFO", "--concurrency", "1", *options]
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url(),
        "UNDERSTUDY_JOB_LEASE_SECONDS": str(LEASE_SECONDS),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    running = WorkerProcess(process, log)
    try:
        wait_until(
            lambda: b" ready." in log.read_bytes() or process.poll() is not None,
            "a worker",
            90,
            log,
        )
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        running.kill()


class RedisServer:
    """A Redis that a test may kill and start again on its port, empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(
            [*command, "--dir", str(self.folder)], stdout=subprocess.DEVNULL
        )
        wait_until(self._answers, "Redis", 30)

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
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False


def wait_until(
    is_true: Callable[[], object], what: str, limit_seconds: float = 60, log: Path | None = None
) -> None:
    """Wait for a state, with a limit."""
    ends_at_seconds = time.monotonic() + limit_seconds
    while not is_true():
        if time.monotonic() > ends_at_seconds:
            text = log.read_text() if log else ""
            raise AssertionError(f"{what}: not within {limit_seconds} s\n{text}")
        time.sleep(0.05)


def database_url() -> str:
    """Return the URL of the test database, for another process."""
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite://{quote(str(values['NAME']))}"
    person = f"{quote(str(values['USER']))}:{quote(str(values['PASSWORD']))}"
    return f"postgresql://{person}@{values['HOST']}:{values['PORT']}/{values['NAME']}"
