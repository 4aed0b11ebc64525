"""A real agent process with image files as disks, and cores with real certificates."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from agent.client import AgentClient, CoreCredentials, PairedAgent, pair_with_agent
from agent.home import Home

CODE = "QUIET-RIVER-4711-BEND"
RESCUE_CODE = "SHIP-LEFT-BELL-2317"
MIB = 1024 * 1024


@dataclass
class RunningAgent:
    """An agent process; a restart keeps its state and its port."""

    folder: Path
    disks: dict[str, Path] = field(default_factory=dict)
    code: str | None = CODE
    port: int = 0
    process: subprocess.Popen[str] | None = None
    # `{"mode": "restore"}` is a machine that runs the rescue medium.
    settings: dict[str, object] = field(default_factory=dict)
    command: tuple[str, ...] = ("serve",)
    module: str = "agent"

    def start(self) -> "RunningAgent":
        self.configuration.write_text(
            json.dumps(
                {
                    "address": "127.0.0.1",
                    "port": self.port,
                    "pairing_code": self.code,
                    "provider": "file",
                    "disks": [{"key": key, "path": str(path)} for key, path in self.disks.items()],
                    "state_folder": str(self.folder / "state"),
                    **self.settings,
                }
            )
        )
        with (self.folder / "agent.log").open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(
                        sys.executable,
                        "-m",
                        "tests.places.quick_pairing",
                        self.module,
                        *self.command,
                    ),
                    *("--configuration", str(self.configuration)),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self._stdout.readline()
        match = re.fullmatch(r"listening on port (\d+)\n", line)
        assert match, (line, self.log())
        self.port = int(match[1])
        return self

    @property
    def configuration(self) -> Path:
        return self.folder / "agent.json"

    @property
    def _stdout(self) -> IO[str]:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; return its exit status."""
        stdout = self._stdout
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(30)
        stdout.close()
        self.process = None
        return status

    def end(self) -> None:
        """End it as a service is ended, if it runs: only then is measured what it ran."""
        if self.process is not None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it without warning, if it runs."""
        if self.process is not None:
            self.stop(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def reinstall(self) -> None:
        """Start it as a fresh installation at the same port: another certificate, no cores."""
        self.kill()
        shutil.rmtree(self.folder / "state")
        self.start()

    def blank(self) -> None:
        """Empty the disks and forget what was restored, as another machine in its place."""
        self.kill()
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        for path in self.disks.values():
            blank_disk(path, path.stat().st_size)
        self.start()

    def forget_core(self, fingerprint: str) -> None:
        """Have it trust a core no more, as in a recovery point from before it did."""
        path = self.folder / "state/trusted-cores.json"
        entries = json.loads(path.read_text())
        kept = [entry for entry in entries if entry["fingerprint"] != fingerprint]
        assert len(kept) < len(entries)
        path.write_text(json.dumps(kept))

    def new_code(self) -> str:
        """Make a new pairing code, as a person at the machine can."""
        words = ("new-code", "--configuration", str(self.configuration))
        made = subprocess.run(
            [sys.executable, "-m", "agent", *words],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return made.stdout.strip()

    def add_disk(self, key: str, capacity_bytes: int = 2 * MIB) -> Path:
        """A disk that holds something."""
        self.disks[key] = write_disk(self.folder / f"{key}.raw", capacity_bytes, MIB)
        return self.disks[key]

    def add_blank_disk(self, key: str, capacity_bytes: int) -> Path:
        """A disk that holds nothing."""
        self.disks[key] = blank_disk(self.folder / f"{key}.raw", capacity_bytes)
        return self.disks[key]

    def has_restarted(self, limit_seconds: float = 5) -> bool:
        """Whether the machine was told to start from its own disk; it takes a moment."""
        deadline = time.monotonic() + limit_seconds
        mark = self.folder / "state" / "restarted"
        while not mark.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return mark.exists()

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def client(self, core: "Core", paired: PairedAgent) -> AgentClient:
        return AgentClient(
            "127.0.0.1", self.port, core.credentials, paired.certificate_pem, timeout_seconds=30
        )


@dataclass
class Core:
    """A core as an agent sees it."""

    name: str
    credentials: CoreCredentials

    @property
    def certificate_pem(self) -> str:
        return self.credentials.certificate_path.read_text()

    def pair(self, agent: RunningAgent, code: str = CODE, home: Home | None = None) -> PairedAgent:
        address = ("127.0.0.1", agent.port)
        return pair_with_agent(*address, code, self.credentials, self.name, home=home)


def make_core(folder: Path, name: str) -> Core:
    """Make a core with a certificate and a key of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate_path, key_path = folder / "core.pem", folder / "core.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "100"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={name}"),
            *("-keyout", str(key_path), "-out", str(certificate_path)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return Core(name, CoreCredentials(certificate_path, key_path))


def write_disk(path: Path, capacity_bytes: int, data_bytes: int) -> Path:
    """Write a disk image with `data_bytes` that deflate by about half, and a hole behind them."""
    with path.open("wb") as image:
        for _ in range(data_bytes // 65536):
            image.write(os.urandom(32768) + bytes(32768))
        image.truncate(capacity_bytes)
    return path


def blank_disk(path: Path, capacity_bytes: int) -> Path:
    """Make an empty disk."""
    with path.open("wb") as image:
        image.truncate(capacity_bytes)
    return path


def overwrite(path: Path, offset_bytes: int, data: bytes) -> None:
    """Change bytes of a disk image in place."""
    with path.open("r+b") as image:
        image.seek(offset_bytes)
        image.write(data)


def assert_becomes(client: AgentClient, disk: Path, image: Path) -> None:
    """Have a rescue machine restart, which completes its disks, and compare one with an image."""
    client.restart_from_disk()
    data = image.read_bytes()
    assert disk.read_bytes()[: len(data)] == data


@contextmanager
def rescue_machine(folder: Path) -> Iterator[RunningAgent]:
    """A machine that runs the rescue medium, with two blank disks."""
    folder.mkdir()
    disks = {
        "first": blank_disk(folder / "first.raw", 8 * MIB),
        "second": blank_disk(folder / "second.raw", 4 * MIB),
    }
    running = RunningAgent(folder, disks, settings={"mode": "restore"}).start()
    yield running
    running.end()
    shutil.rmtree(folder)


@contextmanager
def two_disks_agent(folder: Path, module: str = "agent") -> Iterator[RunningAgent]:
    """An agent with two small disks, open for pairing."""
    folder.mkdir()
    disks = {
        "boot": write_disk(folder / "boot.raw", 8 * MIB, 2 * MIB),
        "data": write_disk(folder / "data.raw", 3 * MIB + 512, 1 * MIB),
    }
    running = RunningAgent(folder, disks, module=module).start()
    yield running
    running.end()
    shutil.rmtree(folder)


def trusted_core(agent: RunningAgent, client: AgentClient, folder: Path) -> AgentClient:
    """Have an agent trust one more core; return how that core speaks to it."""
    core = make_core(folder / "other-core", "other-core")
    client.trust(core.certificate_pem, core.name)
    pem = (agent.folder / "state/agent.pem").read_text()
    return AgentClient("127.0.0.1", agent.port, core.credentials, pem, 30)
