"""The two sites: their programs, folders, ports and secrets."""

import json
import os
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.guest.machines import wanted_machines
from lab.places import SOURCE_CORE_AT, TARGET_CORE_AT, Ports, write_private
from lab.programs import Program, clean_environment
from lab.source_machines import SourceMachine
from lab.vcsim.process import ensure_binary, write_certificate

ADMINISTRATOR = "admin"
VCENTER_USER = "administrator@vsphere.local"
SOURCE, TARGET = "source", "target"
CORE_NAMES = {SOURCE: "Headquarters", TARGET: "DR site"}
CORES_AT = {SOURCE: SOURCE_CORE_AT, TARGET: TARGET_CORE_AT}
VENV_FOLDER = Path(sys.executable).parent


@dataclass(frozen=True)
class Core:
    """One core of the lab: its home folder and the ports it listens on."""

    site: str
    home: Path
    console_port: int
    core_port: int
    redis_port: int

    @property
    def name(self) -> str:
        return CORE_NAMES[self.site]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.console_port}"

    @property
    def password_file(self) -> Path:
        return self.home / "admin-password"

    @property
    def redis_folder(self) -> Path:
        return self.home / "redis"

    def take_medium(self, medium: Path) -> None:
        """Copy the rescue medium to where the console looks for it."""
        offered = self.home / "understudy-rescue.iso"
        # The copy keeps the original's time, so that it is copied only once.
        if not offered.exists() or offered.stat().st_mtime_ns != medium.stat().st_mtime_ns:
            unfinished = self.home / ".understudy-rescue.iso"
            shutil.copy2(medium, unfinished)
            unfinished.rename(offered)

    def environment(self) -> dict[str, str]:
        """Return the environment of every process of this core."""
        own = {
            "UNDERSTUDY_HOME": str(self.home),
            "UNDERSTUDY_CORE_NAME": self.name,
            "UNDERSTUDY_ADDRESS": "127.0.0.1",
            "UNDERSTUDY_CORE_PORT": str(self.core_port),
            "UNDERSTUDY_HOST_FOR_MACHINES": CORES_AT[self.site],
            "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "PYTHONUNBUFFERED": "1",
        }
        # A lab on PostgreSQL has one database for each core.
        if database := os.environ.get(f"UNDERSTUDY_{self.site.upper()}_DATABASE_URL"):
            own["DATABASE_URL"] = database
        return clean_environment(**own)

    def programs(self) -> list[Program]:
        """Return the programs of this core, in starting order."""
        console = f"127.0.0.1:{self.console_port}"
        return [
            self._program(
                "redis",
                *("/usr/bin/redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1"),
                *("--dir", str(self.redis_folder), "--save", "", "--appendonly", "no"),
                address=f"127.0.0.1:{self.redis_port}",
            ),
            self._program(
                "console",
                *(_venv("gunicorn"), "console.wsgi", "--bind", console, "--preload"),
                *("--workers", "2", "--worker-class", "gthread", "--threads", "8"),
                *("--timeout", "120", "--graceful-timeout", "5", "--no-control-socket"),
                address=self.url,
            ),
            self._program(
                "core",
                *(_venv("gunicorn"), "-c", "python:replication.api.gunicorn_settings"),
                *("--graceful-timeout", "5", "--no-control-socket", "replication.api.wsgi"),
                address=f"127.0.0.1:{self.core_port}",
            ),
            self._worker("control", concurrency=4, more=("--beat",)),
            self._worker("transfer", concurrency=2),
        ]

    def _worker(self, queue: str, concurrency: int, more: tuple[str, ...] = ()) -> Program:
        return self._program(
            queue,
            *(_venv("celery"), "-A", "console", "worker", "-Q", queue, *more),
            *("--concurrency", str(concurrency), "-n", f"{queue}@{self.site}"),
            *("--loglevel", "INFO", "--without-gossip", "--without-mingle"),
        )

    def _program(self, name: str, *command: str, address: str = "") -> Program:
        return Program(name, self.site, command, self.environment(), self.home, address)


@dataclass(frozen=True)
class VcenterSite:
    """The simulated vCenter of the target site and the hypervisor beneath it."""

    folder: Path
    port: int
    agent_port: int
    # Port of each core, by its address in the machines' network.
    cores: dict[str, int]

    @property
    def certificate_path(self) -> Path:
        return self.folder / "certificate.pem"

    @property
    def password_file(self) -> Path:
        return self.folder / "password"

    @property
    def machines_folder(self) -> Path:
        return self.folder / "machines"

    @property
    def binary_path(self) -> Path:
        return self.folder / "vcsim"

    def take_binary(self) -> None:
        """Copy the simulator, so that a later build elsewhere does not remove it."""
        unfinished = self.folder / ".vcsim"
        shutil.copy2(ensure_binary(), unfinished)
        unfinished.rename(self.binary_path)

    def ensure_secrets(self) -> None:
        """Create the certificate and the password at the first start."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        ensure_secret(self.password_file)
        if not self.certificate_path.exists():
            write_certificate(self.folder)

    def programs(self) -> list[Program]:
        """Return the simulator and the hypervisor."""
        uploads, state = self.folder / "uploads", self.folder / "vcsim.json"
        vcsim = (
            *(str(self.binary_path), "-listen", f"127.0.0.1:{self.port}"),
            *("-cert", str(self.certificate_path), "-key", str(self.folder / "key.pem")),
            *("-user", VCENTER_USER, "-password-file", str(self.password_file)),
            *("-uploads", str(uploads), "-state", str(state)),
        )
        hypervisor = (
            *(sys.executable, "-m", "lab.hypervisor", "--port", str(self.port)),
            *("--user", VCENTER_USER, "--password-file", str(self.password_file)),
            *("--ca", str(self.certificate_path), "--state", str(state)),
            *("--uploads", str(uploads), "--machines", str(self.machines_folder)),
            *("--agent-port", str(self.agent_port)),
            *(f"--core={address}:{port}" for address, port in self.cores.items()),
        )
        environment = clean_environment(PYTHONUNBUFFERED="1")
        address = f"https://127.0.0.1:{self.port}"
        return [
            Program("vcsim", TARGET, vcsim, environment, self.folder, address),
            Program("hypervisor", TARGET, hypervisor, environment, self.folder),
        ]


class Sites:
    """Everything in one lab, in its home."""

    def __init__(self, home: Path, ports: Ports) -> None:
        self.home = home
        self.ports = ports
        self.source = Core(
            SOURCE, home / SOURCE, ports.source_console, ports.source_core, ports.source_redis
        )
        self.target = Core(
            TARGET, home / TARGET, ports.target_console, ports.target_core, ports.target_redis
        )
        self.vcenter = VcenterSite(
            home / TARGET / "vcenter", ports.vcenter, ports.agent, ports.cores
        )
        self.machines = [
            SourceMachine(machine, home / SOURCE / "machines", ports.agent, ports.cores)
            for machine in wanted_machines()
        ]

    @property
    def cores(self) -> tuple[Core, Core]:
        return self.source, self.target

    def ensure_secrets(self) -> None:
        """Create folders, passwords and certificates, and write `credentials.json`.

        A newly installed core gets its folders here, before its programs start.
        """
        for core in self.cores:
            core.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            core.redis_folder.mkdir(exist_ok=True)
            ensure_secret(core.password_file)
        self.vcenter.ensure_secrets()
        credentials = {
            core.site: {
                "url": core.url,
                "username": ADMINISTRATOR,
                "password": core.password_file.read_text().strip(),
            }
            for core in (self.target, self.source)
        }
        write_private(self.home / "credentials.json", json.dumps(credentials, indent=2) + "\n")


def ensure_secret(path: Path) -> None:
    """Write a new password to a file that only its owner can read, unless it exists."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(12) + "\n")


def _venv(program: str) -> str:
    return str(VENV_FOLDER / program)
