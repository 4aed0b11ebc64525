"""From empty cores to a protected pair: each act once, recorded when it is done."""

import json
import os
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from lab.places import ROOT
from lab.programs import Program
from lab.sites import ADMINISTRATOR, VCENTER_USER, Core, Sites
from lab.source_machines import SourceMachine
from lab.state import SOURCE_DEAD, SOURCE_UP, changed_state, load_state
from lab.supervisor import in_parallel
from rescue_medium.commands import CommandFailed, run_command

CORE_LIMIT_SECONDS = 180
MACHINE_LIMIT_SECONDS = 420
FIRST_POINTS_LIMIT_SECONDS = 900
PAUSE_SECONDS = 1.0


class NotReady(Exception):
    """The lab did not start; the text says what it waited for and what it saw."""


def prepare_core(core: Core, is_new: bool = False) -> None:
    """Migrate a core's database and create its administrator; empty a new core's database first.

    Raises:
        NotReady: one of them failed.
    """
    try:
        run_command(
            *(sys.executable, "-m", "lab.prepare_core", "--username", ADMINISTRATOR),
            *("--password-file", core.password_file),
            *(("--empty",) if is_new else ()),
            environment=core.environment(),
            folder=ROOT,
            limit_seconds=300,
        )
    except CommandFailed as error:
        raise NotReady(f"{core.name}: {error}") from error


class FirstStart:
    """Sets up the sites for the story. Idempotent: what is done is skipped."""

    def __init__(
        self,
        sites: Sites,
        programs: Mapping[str, Sequence[Program]],
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self._sites = sites
        self._programs = programs
        self._stop = stop
        self._say = say

    def run(self) -> None:
        """Do what is not done yet.

        Raises:
            NotReady: something failed permanently, took too long, or the lab is being stopped.
        """
        sites = self._sites
        source = load_state(sites.home).source
        cores = [core for core in sites.cores if core is sites.target or source != SOURCE_DEAD]
        in_parallel([partial(self._wait_for_core, core) for core in cores])
        self._say("The consoles are up")
        self._add_vcenter()
        if source == SOURCE_UP:
            in_parallel([partial(self._protect, machine) for machine in sites.machines])
            self._add_target_core()
            for machine in sites.machines:
                self._replicate(machine)
            self._wait_for_first_points()

    def _wait_for_core(self, core: Core) -> None:
        self._wait(
            lambda: _answers_http(core.url) and _answers_tls(core.core_port),
            f"{core.name} to answer at {core.url} and 127.0.0.1:{core.core_port}",
            CORE_LIMIT_SECONDS,
            detail=lambda: self._logs(core),
        )

    def _logs(self, core: Core) -> str:
        return "\n".join(
            f"{program.log_path}:\n{program.log_tail()}"
            for program in self._programs[core.site]
            if program.name in ("console", "core")
        )

    def _add_vcenter(self) -> None:
        if load_state(self._sites.home).has_vcenter:
            return
        vcenter = self._sites.vcenter
        self._wait(lambda: _answers_tls(vcenter.port), "the simulated vCenter", CORE_LIMIT_SECONDS)
        self._manage(
            self._sites.target,
            *("add_vcenter", "--name", "DR vCenter", "--host", "127.0.0.1"),
            *("--port", str(vcenter.port), "--username", VCENTER_USER),
            *("--password-file", str(vcenter.password_file)),
        )
        with changed_state(self._sites.home) as state:
            state.has_vcenter = True
        self._say("The vCenter is added to the DR site")

    def _protect(self, machine: SourceMachine) -> None:
        if machine.name in load_state(self._sites.home).protected_machines:
            return
        self._say(f"{machine.name} is booting at {machine.machine.address}:{machine.agent_port}")
        said = ""

        def is_protected() -> bool:
            nonlocal said
            try:
                self._manage(
                    self._sites.source,
                    *("protect_machine", "--name", machine.name),
                    *("--host", machine.machine.address, "--port", str(machine.agent_port)),
                    *("--interval", str(snapshot_interval_seconds())),
                    answer=machine.pairing_code,
                )
            except NotReady as error:
                said = str(error)
                return False
            return True

        self._wait_for_boot(machine)
        self._wait(
            is_protected,
            f"{machine.name} to be protected",
            MACHINE_LIMIT_SECONDS,
            detail=lambda: said,
            pause_seconds=5,
        )
        with changed_state(self._sites.home) as state:
            state.protected_machines.append(machine.name)
        self._say(f"{machine.name} is protected by {self._sites.source.name}")

    def _wait_for_boot(self, machine: SourceMachine) -> None:
        """Wait until its agent answers; a machine that was resumed says nothing on its console."""
        address = machine.machine.address
        self._wait(
            lambda: machine.guest.is_running and _answers_tls(machine.agent_port, address),
            f"{machine.name} to boot",
            MACHINE_LIMIT_SECONDS,
            detail=lambda: f"its console: {machine.guest.console_log}",
        )

    def _add_target_core(self) -> None:
        if load_state(self._sites.home).has_target_core:
            return
        target = self._sites.target
        self._manage(
            self._sites.source,
            *("add_target_core", "--host", "127.0.0.1", "--port", str(target.core_port)),
            answer=self._manage(target, "pairing_code"),
        )
        with changed_state(self._sites.home) as state:
            state.has_target_core = True
        self._say(f"{self._sites.source.name} replicates to {target.name}")

    def _replicate(self, machine: SourceMachine) -> None:
        if machine.name in load_state(self._sites.home).replicated_machines:
            return
        self._manage(self._sites.source, "replicate_machine", machine.name)
        with changed_state(self._sites.home) as state:
            state.replicated_machines.append(machine.name)

    def _wait_for_first_points(self) -> None:
        store = self._sites.target.home / "store"
        wanted = {machine.name for machine in self._sites.machines}
        told: set[str] = set()

        def has_all() -> bool:
            for name in sorted(machines_with_points(store) & wanted - told):
                told.add(name)
                self._say(f"{name} has a recovery point at the DR site")
            return told == wanted

        self._wait(
            has_all,
            f"a recovery point of each of {', '.join(sorted(wanted))} at the DR site",
            FIRST_POINTS_LIMIT_SECONDS,
            detail=lambda: f"the pages at {self._sites.source.url} and the logs may say why",
        )
        self._wait_for_a_failover_to_be_accepted(sorted(wanted))

    def _wait_for_a_failover_to_be_accepted(self, names: Sequence[str]) -> None:
        """Wait until the DR site would fail over all machines, as its own dialog judges it."""
        source, target = self._sites.source, self._sites.target
        machines = [word for name in names for word in ("--machine", name)]
        said = ""

        def is_accepted() -> bool:
            nonlocal said
            try:
                self._manage(target, "fail_over", source.name, *machines, "--check")
            except NotReady as error:
                said = str(error)
                return False
            return True

        self._wait(
            is_accepted,
            f"{target.name} to accept a failover of {', '.join(names)}",
            CORE_LIMIT_SECONDS,
            detail=lambda: said,
            pause_seconds=5,
        )

    def _manage(self, core: Core, *words: str, answer: str | None = None) -> str:
        try:
            return run_command(
                *(sys.executable, "manage.py", *words),
                environment=core.environment(),
                folder=ROOT,
                limit_seconds=300,
                input_text=answer,
            )
        except CommandFailed as error:
            raise NotReady(f"{core.name}: {error}") from error

    def _wait(
        self,
        is_so: Callable[[], bool],
        what: str,
        limit_seconds: float,
        detail: Callable[[], str] = str,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        deadline = time.monotonic() + limit_seconds
        while not is_so():
            if self._stop.wait(pause_seconds):
                raise NotReady("it is being stopped")
            if time.monotonic() > deadline:
                raise NotReady(f"waited {limit_seconds:.0f} s for {what}\n{detail()}")


def snapshot_interval_seconds() -> int:
    """Return the snapshot interval: `UNDERSTUDY_LAB_INTERVAL`, or a minute."""
    text = os.environ.get("UNDERSTUDY_LAB_INTERVAL", "60")
    if not text.isdecimal() or int(text) == 0:
        raise SystemExit(f"UNDERSTUDY_LAB_INTERVAL must be a number of seconds, not {text!r}")
    return int(text)


def machines_with_points(store_path: Path) -> set[str]:
    """Return the names of the machines with complete points in the store."""
    names = set()
    for machine in store_path.glob("machines/*"):
        manifest = next(machine.glob("points/*/manifest.json"), None)
        if manifest is not None:
            names.add(json.loads(manifest.read_text())["machine_name"])
    return names


def _answers_http(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except urllib.error.HTTPError as error:
        # A refusal is an answer; a core that is up does not answer with a server error.
        return error.code < 500
    except OSError:
        return False


def _answers_tls(port: int, host: str = "127.0.0.1") -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=5) as connection,
            context.wrap_socket(connection),
        ):
            return True
    except OSError:
        return False
