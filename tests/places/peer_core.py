"""A second core: its own home, its own database, its core interface served by a real gunicorn."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.identity import fingerprint_of
from recovery_store.store import Store
from replication.errors import PeerUnreachable
from replication.peers.client import fetch_certificate

ROOT = Path(__file__).resolve().parents[2]
WRONG_CODE = "WRNG-WRNG-WRNG-WRNG"
_START_LIMIT_SECONDS = 60


@dataclass
class PeerCore:
    """Another core that really runs; the tests see its store and, read-only, its rows."""

    home: Path
    name: str
    port: int
    process: subprocess.Popen[bytes] | None = None
    worker: subprocess.Popen[bytes] | None = None
    code: str = ""

    @property
    def pairing_code(self) -> str:
        """A code that is open. The same one is opened again, which is quicker than a new one."""
        self.rows("UPDATE replication_pairingcode SET used_by = '', used_at = NULL")
        self.rows("UPDATE replication_pairingcode SET wrong_tries = 0")
        return self.code

    @property
    def environment(self) -> dict[str, str]:
        environment = {
            **os.environ,
            "UNDERSTUDY_HOME": str(self.home),
            "UNDERSTUDY_CORE_NAME": self.name,
            "UNDERSTUDY_ADDRESS": "127.0.0.1",
            "UNDERSTUDY_CORE_PORT": str(self.port),
            # So that a job of a worker that was killed is soon another's.
            "UNDERSTUDY_JOB_LEASE_SECONDS": "5",
            "PYTHONPATH": str(ROOT),
        }
        # It always has a database of its own, whatever engine this test run uses.
        for name in ("DATABASE_URL", "DJANGO_SETTINGS_MODULE"):
            environment.pop(name, None)
        return environment

    @property
    def store(self) -> Store:
        return Store(self.home / "store")

    @property
    def certificate_pem(self) -> str:
        return (self.home / "identity" / "core.pem").read_text()

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.certificate_pem)

    @property
    def core_id(self) -> uuid.UUID:
        return uuid.UUID(json.loads((self.home / "identity" / "core.json").read_text())["id"])

    def manage(self, *words: str, answer: str = "") -> str:
        return subprocess.run(
            [sys.executable, "-m", "tests.places.quick_pairing", "manage", *words],
            cwd=ROOT,
            env=self.environment,
            input=answer,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    def set_up(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.manage("migrate", "--verbosity", "0")
        self.code = self.manage("pairing_code", "--minutes", "1440").strip()

    def start(self) -> None:
        with (self.home / "core-interface.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.places.quick_pairing", "gunicorn"),
                    *("-c", "python:replication.api.gunicorn_settings", "replication.api.wsgi"),
                ],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_LIMIT_SECONDS
        while True:
            try:
                fetch_certificate("127.0.0.1", self.port)
                return
            except PeerUnreachable:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(
                        (self.home / "core-interface.log").read_text()[-3000:]
                    ) from None
                time.sleep(0.05)

    def start_worker(self) -> None:
        """Start what works on its jobs."""
        with (self.home / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "tests.places.job_worker"],
                cwd=ROOT,
                env={**self.environment, "DJANGO_SETTINGS_MODULE": "console.settings"},
                stdout=log,
                stderr=log,
            )

    def stop_worker(self) -> None:
        if self.worker is None:
            return
        self.worker.kill()
        self.worker.wait(30)
        self.worker = None

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        self.process.wait(30)
        self.process = None

    def kill(self) -> None:
        """Take all of it away at once, as a loss of power does; its files stay."""
        self.stop_worker()
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self.process = None

    def revive(self) -> None:
        """Start it again after `kill`."""
        self.start()
        self.start_worker()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read its database, or change it as an act on that core would have."""
        plain = [value.hex if isinstance(value, uuid.UUID) else value for value in values]
        with closing(sqlite3.connect(self.home / "core.sqlite3", timeout=30)) as database:
            found = database.execute(query, plain).fetchall()
            database.commit()
            return found

    def forget_everything(self) -> None:
        """Empty its rows of machines and pairings, as between two tests."""
        for table in (
            "jobs_jobevent",
            "jobs_jobstep",
            "jobs_job",
            "protected_machines_restoretarget",
            "replication_replicatedmachine",
            "replication_pairing",
            "protected_machines_recoverypoint",
            "protected_machines_announcement",
            "protected_machines_delegation",
            "protected_machines_machine",
        ):
            self.rows(f"DELETE FROM {table}")
