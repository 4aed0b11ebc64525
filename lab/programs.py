"""A program of a site: start it, find it again, check it and end it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.places import ROOT
from lab.processes import OwnProcess, find_process, write_record


@dataclass
class Program:
    """A process that the lab keeps running, with its own log and pid file."""

    name: str
    site: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    address: str = ""
    grace_seconds: float = 10
    needs: tuple[str, ...] = ()
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log_path(self) -> Path:
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def record_path(self) -> Path:
        return self.folder / "run" / f"{self.name}.json"

    @property
    def process(self) -> OwnProcess | None:
        process = find_process(self.record_path)
        if process is None:
            self._collect()
        return process

    @property
    def is_running(self) -> bool:
        return self.process is not None

    def start(self) -> None:
        """Start it in its own session, so that Ctrl-C reaches only the supervisor."""
        if self.is_running:
            return
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._keep_log_short()
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                cwd=ROOT,
                start_new_session=True,
            )
        with contextlib.suppress(ProcessLookupError):
            write_record(self.record_path, OwnProcess.of(self._child.pid))

    def ask_to_end(self) -> None:
        """Ask it to end, without waiting."""
        if process := self.process:
            process.send(signal.SIGTERM)

    def end(self) -> None:
        """End it and its children, by force if it takes too long."""
        if process := self.process:
            family = process.descendants()
            process.end(self.grace_seconds)
            for member in family:
                member.kill()
            self._collect()

    def kill(self) -> None:
        """Kill it and its children without warning."""
        if process := self.process:
            # The parent first, or it would replace its killed children.
            for member in [process, *process.descendants()]:
                member.send(signal.SIGKILL)
            process.wait(10)
            self._collect()

    def log_tail(self, line_count: int = 15) -> str:
        """Return the last lines of the log."""
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(lines[-line_count:])

    def _collect(self) -> None:
        """Collect the exit code of a child that has ended, or it would stay a zombie."""
        if self._child is not None:
            self._child.poll()

    def _keep_log_short(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self.log_path.stat().st_size > 20 * 1024 * 1024:
                self.log_path.replace(self.log_path.with_suffix(".log.1"))


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without variables of a core, plus `more`."""
    environment: dict[str, Any] = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UNDERSTUDY_", "DJANGO_"))
        and name not in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")
    }
    return environment | {"DJANGO_SETTINGS_MODULE": "console.settings"} | more
