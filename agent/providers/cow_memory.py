"""Block devices in memory (zram) for the blocks that are overwritten while a view is read.

The devices allocate memory as they fill, compress their contents, and have a hard limit. A full
device returns an error, which invalidates its view and harms nothing else.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from agent.errors import SnapshotFailed

_SYS = Path("/sys")
_CONTROL = "class/zram-control"
_MODPROBE_SECONDS = 60
_LEAST_BYTES = 16 * 1024 * 1024
_MOST_BYTES = 4 * 1024**3
# The limit applies to the compressed size, so a device can hold more than its limit.
_COMPRESSION = 4


def ensure_modules(sys_root: Path = _SYS) -> None:
    """Load the kernel modules that a view needs, before anything is frozen.

    Raises:
        SnapshotFailed: a module is missing or cannot be loaded.
    """
    if (sys_root / _CONTROL).exists() and (sys_root / "module/dm_snapshot").exists():
        return
    for command in (["modprobe", "dm_snapshot"], ["modprobe", "zram", "num_devices=0"]):
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=_MODPROBE_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SnapshotFailed(f"Loading a kernel module: {error}") from error
        if done.returncode:
            text = done.stderr.decode(errors="replace").strip()[-300:]
            raise SnapshotFailed(f"Loading a kernel module: {' '.join(command)}: {text}")


def memory_for_cow(wanted_bytes: int | None, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return how much memory the copy-on-write space of all disks may take in total.

    Raises:
        SnapshotFailed: too little memory is free.
    """
    available_bytes = 0
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available_bytes = int(line.split()[1]) * 1024
    may_take_bytes = min(wanted_bytes or available_bytes // 2, _MOST_BYTES)
    if available_bytes < _LEAST_BYTES * 2 or may_take_bytes < _LEAST_BYTES:
        raise SnapshotFailed(
            f"Taking a view needs {2 * _LEAST_BYTES} bytes of free memory for overwritten blocks, "
            f"but the machine has {available_bytes}"
        )
    return may_take_bytes


class CowDevice:
    """One memory device. `release` frees the memory."""

    def __init__(self, limit_bytes: int, capacity_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._number: int | None = None
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        # A disk that is overwritten completely needs its size, and a little more for the table.
        size_bytes = min(limit_bytes * _COMPRESSION, capacity_bytes + capacity_bytes // 64 + 2**20)
        self.size_bytes = -(-size_bytes // page_bytes) * page_bytes
        try:
            self._number = int((_SYS / _CONTROL / "hot_add").read_text())
            self._write("disksize", self.size_bytes)
            self._write("mem_limit", limit_bytes)
        except (OSError, ValueError) as error:
            self.release()
            raise SnapshotFailed(
                f"Making a memory device of {size_bytes} bytes for overwritten blocks: {error}"
            ) from error

    @property
    def numbers(self) -> str:
        """Major and minor number in the device mapper's notation."""
        return (_SYS / f"block/zram{self._number}/dev").read_text().strip()

    @property
    def path(self) -> Path:
        """The device node."""
        return Path("/dev") / f"zram{self._number}"

    def release(self) -> None:
        """Free the memory and remove the device; harmless if repeated."""
        if self._number is None:
            return
        number, self._number = self._number, None
        release_cow(number)

    def _write(self, name: str, value: int) -> None:
        (_SYS / f"block/zram{self._number}" / name).write_text(str(value))


def release_cow(number: int, sys_root: Path = _SYS) -> None:
    """Remove the memory device with that number.

    Raises:
        SnapshotFailed: the device is in use.
    """
    try:
        (sys_root / f"block/zram{number}/reset").write_text("1")
        (sys_root / _CONTROL / "hot_remove").write_text(str(number))
    except OSError as error:
        raise SnapshotFailed(f"Releasing the memory device zram{number}: {error}") from error
