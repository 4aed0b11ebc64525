"""One measured figure beside its peer, and how commands are measured."""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """What was measured.

    ours, peer: in `unit`; the peer is what the requirement compares with.
    ratio: the number that the requirement limits, mostly ours by peer.
    """

    name: str
    ours: float
    peer_name: str
    peer: float
    unit: str
    ratio: float
    required: str
    met: bool

    def row(self) -> str:
        """Return the figure as a row of a Markdown table."""
        cells = (
            self.name,
            f"{self.ours:,.1f} {self.unit}",
            f"{self.peer_name}: {self.peer:,.1f} {self.unit}",
            f"{self.ratio:.3g}",
            self.required,
            "yes" if self.met else "**no**",
        )
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Run:
    """How long a command took, and the most memory it held."""

    seconds: float
    peak_bytes: int
    output: str


def run_command(command: Sequence[object]) -> Run:
    """Run a command to its end; raises if it fails."""
    started = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, output)
    return Run(time.monotonic() - started, usage.ru_maxrss * 1024, output)


def at_most(name: str, ours: float, peer_name: str, peer: float, unit: str, limit: float) -> Figure:
    """Return a figure that must be at most `limit` times its peer."""
    ratio = ours / peer
    return Figure(name, ours, peer_name, peer, unit, ratio, f"≤ {limit:g} ×", ratio <= limit)
