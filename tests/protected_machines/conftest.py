"""Places of this room's tests: a store of its own, a real agent process, a real vcsim."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest
from django.contrib.auth.models import User

from lab.vcsim.process import Vcsim, running_vcsim
from protected_machines.agents.pairing import protect_machine
from protected_machines.exports.vcenters import add_vcenter
from protected_machines.models import Machine, VCenter
from protected_machines.points.store import open_store
from recovery_store.store import Store

CODE = "QUIET-RIVER-4711"
RESCUE_CODE = "SHIP-LEFT-BELL-2317"
MIB = 1024 * 1024


@dataclass
class AgentProcess:
    """A real agent whose disks are image files; a restart keeps its state and its port."""

    folder: Path
    disks: dict[str, Path] = field(default_factory=dict)
    code: str = CODE
    port: int = 0
    # "restore" is a machine that runs the rescue medium.
    mode: str = "protect"
    module: str = "agent"
    process: subprocess.Popen[str] | None = None

    def start(self) -> "AgentProcess":
        disks = [{"key": key, "path": str(path)} for key, path in self.disks.items()]
        settings = {
            "address": "127.0.0.1",
            "port": self.port,
            "pairing_code": self.code,
            "mode": self.mode,
            "provider": "file",
            "disks": disks,
            "state_folder": str(self.folder / "state"),
        }
        configuration = self.folder / "agent.json"
        configuration.write_text(json.dumps(settings))
        with (self.folder / "agent.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "serve", "--configuration", str(configuration)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        match = re.fullmatch(r"listening on port (\d+)\n", self._stdout.readline())
        assert match, (self.folder / "agent.log").read_text()
        self.port = int(match[1])
        return self

    @property
    def _stdout(self) -> IO[str]:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process is None:
            return
        stdout = self._stdout
        self.process.send_signal(number)
        self.process.wait(30)
        stdout.close()
        self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def new_code(self) -> str:
        """Make a new pairing code, as who stands before the machine can."""
        words = ("new-code", "--configuration", str(self.folder / "agent.json"))
        made = subprocess.run(
            [sys.executable, "-m", "agent", *words],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return made.stdout.strip()

    def reinstall(self) -> None:
        """Start it as a fresh installation at the same port: another certificate, nobody paired."""
        self.stop()
        shutil.rmtree(self.folder / "state")
        self.start()

    def add_blank_disk(self, key: str, capacity_bytes: int) -> Path:
        """A disk that holds nothing."""
        self.disks[key] = write_disk(self.folder / f"{key}.raw", capacity_bytes, 0)
        return self.disks[key]

    def blank(self) -> None:
        """Empty the disks and forget what was restored, as another machine in its place."""
        self.stop()
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        for path in self.disks.values():
            capacity_bytes = path.stat().st_size
            path.write_bytes(b"")
            os.truncate(path, capacity_bytes)
        self.start()

    def has_restarted(self, limit_seconds: float = 5) -> bool:
        """Whether the machine was told to start from its own disk; it takes a moment."""
        deadline = time.monotonic() + limit_seconds
        mark = self.folder / "state" / "restarted"
        while not mark.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return mark.exists()

    def add_disk(self, key: str, capacity_bytes: int = 2 * MIB) -> Path:
        self.disks[key] = write_disk(self.folder / f"{key}.raw", capacity_bytes, MIB)
        return self.disks[key]


def write_disk(path: Path, capacity_bytes: int, data_bytes: int) -> Path:
    """Write a disk image that holds `data_bytes`, which deflate by half, and then nothing."""
    with path.open("wb") as image:
        for _ in range(data_bytes // 65536):
            image.write(os.urandom(32768) + bytes(32768))
        image.truncate(capacity_bytes)
    return path


def overwrite(path: Path, offset_bytes: int, data: bytes) -> None:
    """Change bytes of a disk image in place."""
    with path.open("r+b") as image:
        image.seek(offset_bytes)
        image.write(data)


@pytest.fixture
def admin_user(db: None) -> User:
    """An administrator whose password nobody hashes: the tests do not sign in with it."""
    user = User(username="admin", is_staff=True, is_superuser=True)
    user.set_unusable_password()
    user.save(force_insert=True)
    return user


@pytest.fixture
def store(core_home: Path) -> Iterator[Store]:
    """This core's store, empty before and after."""
    shutil.rmtree(core_home / "store", ignore_errors=True)
    yield open_store()
    shutil.rmtree(core_home / "store", ignore_errors=True)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent with a boot disk and a data disk, open for pairing."""
    folder = tmp_path / "agent"
    folder.mkdir()
    process = AgentProcess(folder)
    process.add_disk("boot", 4 * MIB)
    process.add_disk("data", 2 * MIB)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def rescue(tmp_path: Path) -> Iterator[AgentProcess]:
    """A machine with two blank disks that runs the rescue medium."""
    folder = tmp_path / "rescue"
    folder.mkdir()
    process = AgentProcess(folder, mode="restore", code=RESCUE_CODE)
    process.add_blank_disk("first", 5 * MIB)
    process.add_blank_disk("second", 2 * MIB)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def machine(db: None, store: Store, agent: AgentProcess) -> Machine:
    """A machine that is paired with the running agent."""
    return protect_machine(name="db-01", host="127.0.0.1", port=agent.port, code=CODE)


@pytest.fixture(scope="session")
def vcsim() -> Iterator[Vcsim]:
    """A vCenter simulator for the whole run."""
    with running_vcsim() as simulator:
        yield simulator


@pytest.fixture
def vcenter(db: None, vcsim: Vcsim) -> VCenter:
    """The simulator, as a vCenter of this core."""
    return add_vcenter(
        name="DR vCenter",
        host=vcsim.host,
        port=vcsim.port,
        username=vcsim.username,
        password=vcsim.password,
        thumbprint=vcsim.thumbprint,
    )


@pytest.fixture
def files(store: Store) -> Callable[[], set[str]]:
    """What lies in the store now, by relative path; digest caches and locks left out."""

    def look() -> set[str]:
        return {
            str(path.relative_to(store.root))
            for path in store.root.rglob("*")
            if path.is_file() and path.suffix in (".vmdk", ".json")
        }

    return look
