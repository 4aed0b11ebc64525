"""Real Celery workers for live tests, on the test's own database and Redis."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from django.db import connection

from tests.places.waiting import wait_until

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
            log.read_text,
        )
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        running.kill()


def database_url() -> str:
    """Return the URL of the test database, for another process."""
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite://{quote(str(values['NAME']))}"
    person = f"{quote(str(values['USER']))}:{quote(str(values['PASSWORD']))}"
    return f"postgresql://{person}@{values['HOST']}:{values['PORT']}/{values['NAME']}"
