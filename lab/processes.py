"""Remember which processes belong to the lab, and end only those.

A process id alone proves little: the number may have been reused. So a record also has the start
time, and signals go through a file descriptor of the process, opened before the record is compared.
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
    """A process that the lab started. `started_ticks` is its start time in the kernel's ticks."""

    pid: int
    started_ticks: int
    host_boot_id: str

    @classmethod
    def of(cls, pid: int) -> "OwnProcess":
        """Return the record of a running process.

        Raises:
            ProcessLookupError: it is not running.
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
        """When it started, on the clock of `time.monotonic`, if the host has never slept."""
        return self.started_ticks / os.sysconf("SC_CLK_TCK")

    @property
    def cpu_seconds(self) -> float:
        """The processor time it has used; zero once it has ended."""
        fields = _stat_fields(self.pid) if self.is_running else None
        if fields is None:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, signal_number: int) -> bool:
        """Send a signal to exactly this process; return False if it is gone."""
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
        """Wait until the process has ended; return False if it still runs after the limit."""
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
        """Ask the process to end; kill it if it does not within `grace_seconds`."""
        if self.send(first_signal) and not self.wait(grace_seconds):
            self.kill()

    def kill(self) -> None:
        """Kill the process without warning."""
        if self.send(signal.SIGKILL):
            self.wait(10)

    def descendants(self) -> list["OwnProcess"]:
        """Return the current children of this process, and theirs."""
        if not self.is_running:
            return []
        found: list[OwnProcess] = []
        for child in _children(self.pid):
            with contextlib.suppress(ProcessLookupError):
                process = OwnProcess.of(child)
                found += [process, *process.descendants()]
        return found


def write_record(path: Path, process: OwnProcess) -> None:
    """Write a pid file, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(process)))
    temporary.rename(path)


def find_process(path: Path) -> OwnProcess | None:
    """Return the process that a pid file names, if it is still running."""
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
    # The name in brackets may contain brackets, so the rest follows the last one.
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
