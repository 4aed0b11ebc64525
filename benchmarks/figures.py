"""A measured figure with its peer, and how commands are measured."""

import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measurement.

    ours, peer: in `unit`; the peer is what the requirement compares with.
    ratio: the number that the requirement limits, usually ours divided by peer.
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
    """How long a command took, and its peak memory."""

    seconds: float
    peak_bytes: int
    output: str


def run_command(command: Sequence[object]) -> Run:
    """Run a command; raise if it fails."""
    started = time.monotonic()
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, text=True
    ) as process:
        peak = _PeakMemory(process.pid)
        output, _ = process.communicate()
        seconds = time.monotonic() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, output)
    return Run(seconds, peak.stop(), output)


class _PeakMemory:
    """Polls a process's memory; the kernel's own figure for a child includes its parent's."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._peak_bytes = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        self._is_over.set()
        self._thread.join()
        return self._peak_bytes

    def _watch(self) -> None:
        while not self._is_over.wait(0.02):
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            for line in lines:
                if line.startswith("VmHWM:"):
                    self._peak_bytes = max(self._peak_bytes, int(line.split()[1]) * 1024)


def at_most(name: str, ours: float, peer_name: str, peer: float, unit: str, limit: float) -> Figure:
    """Return a figure that must be at most `limit` times its peer."""
    ratio = ours / peer
    return Figure(name, ours, peer_name, peer, unit, ratio, f"≤ {limit:g} ×", ratio <= limit)
