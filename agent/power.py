"""Restart the machine, or switch it off, in its own orderly way."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Protocol

from agent.configuration import Configuration
from agent.errors import RequestRefused

log = logging.getLogger(__name__)

_COMMAND_SECONDS = 30
RESTART, POWER_OFF = "restart", "power_off"
# Tried in this order: what a machine without systemd has instead.
_COMMANDS = {
    RESTART: (("systemctl", "--no-block", "reboot"), ("shutdown", "-r", "now")),
    POWER_OFF: (("systemctl", "--no-block", "poweroff"), ("shutdown", "-h", "now")),
}


class Power(Protocol):
    """How the machine is restarted and switched off."""

    def do(self, act: str) -> None:
        """Begin to restart or to power off; returns at once.

        Raises:
            RequestRefused: the machine cannot.
        """


class LocalPower:
    """The machine that the agent runs on."""

    def do(self, act: str) -> None:
        """Have the machine's own services end first."""
        reasons = []
        for command in _COMMANDS[act]:
            try:
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=_COMMAND_SECONDS,
                    check=True,
                )
            except (OSError, subprocess.SubprocessError) as error:
                reasons.append(f"{' '.join(command)}: {error}")
            else:
                log.info("%s begins", act)
                return
        raise RequestRefused(f"The machine cannot {act.replace('_', ' ')}: {'; '.join(reasons)}")


class FilePower:
    """A machine whose disks are raw files: what it is told leaves a mark in its state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def do(self, act: str) -> None:
        """Leave the mark."""
        (self._folder / f"told-to-{act}").touch()


def power_of(configuration: Configuration) -> Power:
    """Return how the configured machine is restarted and switched off."""
    if configuration.provider == "file":
        return FilePower(configuration.state_folder)
    return LocalPower()
