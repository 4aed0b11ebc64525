"""Remember which processes are the lab's own, and end those and no others.

A process id alone says little: the number may belong to somebody else by now. A record therefore
holds the start time too, and a signal goes through a file descriptor of the process that was
opened before the record was compared.
"""

import contextlib
import json
import os
import select
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

HOST_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class OwnProcess:
    """A process that the lab started. `started_ticks` is its start time as the kernel counts it."""

    pid: int
    started_ticks: int
    host_boot_id: str

    @classmethod
    def of(cls, pid: int) -> "OwnProcess":
        """Return the record of a process that runs now.

        Raises:
            ProcessLookupError: it does not run.
        """
        ticks = _started_ticks(pid)
        if ticks is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, ticks, HOST_BOOT_ID.read_text().strip())

    @property
    def is_running(self) -> bool:
        return (
            self.host_boot_id == HOST_BOOT_ID.read_text().strip()
            and _started_ticks(self.pid) == self.started_ticks
        )

    @property
    def started_seconds(self) -> float:
        """When it started, on the clock of `time.monotonic`, as long as the host never slept."""
        return self.started_ticks / os.sysconf("SC_CLK_TCK")

    @property
    def cpu_seconds(self) -> float:
        """How long it has kept processors busy; nothing once it has ended."""
        fields = _stat_fields(self.pid) if self.is_running else None
        if fields is None:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, signal_number: int) -> bool:
        """Send a signal to this very process; return False when it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.is_running:
                return False
            signal.pidfd_send_signal(descriptor, signal_number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)

    def wait(self, limit_seconds: float) -> bool:
        """Wait until the process has ended; return False when it still runs after the limit."""
        deadline = time.monotonic() + limit_seconds
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            while self.is_running:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                select.select([descriptor], [], [], min(left, 1))
            return True
        finally:
            os.close(descriptor)

    def end(self, grace_seconds: float = 10, first_signal: int = signal.SIGTERM) -> None:
        """Ask the process to end, and kill it when it does not within `grace_seconds`."""
        if self.send(first_signal) and not self.wait(grace_seconds):
            self.kill()

    def kill(self) -> None:
        """End the process without warning it."""
        if self.send(signal.SIGKILL):
            self.wait(10)

    def descendants(self) -> list["OwnProcess"]:
        """Return the children of this process and theirs, as they are now."""
        if not self.is_running:
            return []
        found: list[OwnProcess] = []
        for child in _children(self.pid):
            with contextlib.suppress(ProcessLookupError):
                process = OwnProcess.of(child)
                found += [process, *process.descendants()]
        return found


def write_record(path: Path, process: OwnProcess) -> None:
    """Write a pid file, wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(process)))
    temporary.rename(path)


def find_process(path: Path) -> OwnProcess | None:
    """Return the process that a pid file names if that very process runs, else nothing."""
    try:
        process = OwnProcess(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return process if process.is_running else None


def _stat_fields(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in brackets may hold anything, brackets too; the rest follows the last one.
    return text.rpartition(")")[2].split()


def _started_ticks(pid: int) -> int | None:
    fields = _stat_fields(pid)
    if fields is None or fields[0] in ("Z", "X"):
        return None
    return int(fields[19])


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += map(int, task.read_text().split())
    return children
