"""The two sites that the stories are told about, as a person at the shell has them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.places import Ports
from lab.sites import Sites
from tests.places.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
Point = dict[str, Any]


@dataclass
class Lab:
    """The two sites of a story: their home folder, and the process that runs them.

    `port_shift` keeps it apart from a lab that somebody runs by hand, and from other stories.
    """

    home: Path
    machines: tuple[str, ...]
    port_shift: int
    environment: dict[str, str]
    process: subprocess.Popen[str] | None = None
    output: list[str] = field(default_factory=list)
    reader: threading.Thread | None = None

    @classmethod
    def at(cls, home: Path, machines: tuple[str, ...], port_shift: int, **more: str) -> "Lab":
        """Return the lab of a home folder; nothing is started. `more` goes to its environment."""
        environment = {
            **os.environ,
            "UNDERSTUDY_HOME": str(home),
            "UNDERSTUDY_PORT_SHIFT": str(port_shift),
            "UNDERSTUDY_LAB_MACHINES": ",".join(machines),
            "PYTHONUNBUFFERED": "1",
            **more,
        }
        # The lab gives each of its cores its own; the test run's must not leak into them.
        for name in ("REDIS_URL", "DATABASE_URL", "UNDERSTUDY_CORE_NAME"):
            environment.pop(name, None)
        # Two whole sites are slow enough without each of their lines being counted.
        environment.pop("COVERAGE_PROCESS_CONFIG", None)
        return cls(home, machines, port_shift, environment)

    @property
    def sites(self) -> Sites:
        return Sites(self.home, Ports.shifted(self.port_shift))

    def command(
        self, *words: str, site: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `python WORDS` for the lab, or for one site's core, and return what it printed."""
        environment = self.environment
        if site is not None:
            environment = {"source": self.sites.source, "target": self.sites.target}[
                site
            ].environment()
        ran = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=environment,
            text=True,
            capture_output=True,
            timeout=900,
            check=False,
        )
        assert ran.returncode == 0 or not check, f"{words}:\n{ran.stdout}{ran.stderr}"
        return ran

    @property
    def credentials(self) -> dict[str, dict[str, str]]:
        return json.loads((self.home / "credentials.json").read_text())

    @property
    def blank_machines(self) -> dict[str, dict[str, Any]]:
        """Where machines wait to be restored, with their codes."""
        return json.loads((self.home / "rescue.json").read_text())

    def store(self, site: str) -> str:
        """Return the path of one site's store."""
        return str(self.home / site / "store")

    def points(self, site: str, machine: str) -> list[Point]:
        """Return what `recovery_store list --json` says of a machine at one site, oldest first."""
        listed = self.command("-m", "recovery_store", "list", self.store(site), "--json").stdout
        return [point for point in json.loads(listed) if point["machine_name"] == machine]

    def newest_point_id(self, site: str, machine: str) -> str:
        """Return the id of the machine's newest point in one site's store."""
        return str(self.points(site, machine)[-1]["point_id"])

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lab", "run"],
            cwd=ROOT,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.reader = threading.Thread(target=self._read_output, daemon=True)
        self.reader.start()

    def _read_output(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.output.append(line.rstrip())

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, "\n".join(self.output[-50:])
            return any("Understudy is ready" in line for line in self.output)

        wait_until(is_ready, "the lab to be ready", limit_seconds=1200, detail=self.tail)

    def tail(self) -> str:
        return "\n".join(self.output[-50:])

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.command("-m", "lab", "down", check=False)
        if self.reader is not None:
            self.reader.join(60)


@contextmanager
def running_lab(machines: tuple[str, ...], port_shift: int, **more: str) -> Iterator[Lab]:
    """Two sites, ready, with the first points on the target core; all stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="story-") as folder:
        home = Path(os.environ.get("UNDERSTUDY_STORY_HOME") or folder)
        lab = Lab.at(home, machines, port_shift, **more)
        lab.start()
        try:
            lab.wait_until_ready()
            yield lab
        finally:
            lab.stop()
