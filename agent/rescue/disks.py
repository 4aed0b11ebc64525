"""The disks of a rescue machine, which a restore may overwrite.

Unlike those of a protected machine, they are identified by their hardware, since their content
changes.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.configuration import ConfiguredDisk
from agent.disks import controller_of, find_disks, hardware_keys, key_of_content
from agent.errors import DiskTooSmall, RestoreFailed

log = logging.getLogger(__name__)

RESCUE_VOLUME = b"UNDERSTUDY"  # prefix of a rescue medium's volume id
_EDGE_BYTES = 1024 * 1024
_ISO_VOLUME_OFFSET = 32768
_CDROM_EJECT = 0x5309
_RESTART = 0x01234567  # LINUX_REBOOT_CMD_RESTART
_SECTOR_BYTES = 512


@dataclass(frozen=True)
class RescueDisk:
    """A disk that may be overwritten.

    content: what is on the disk, in a few words; empty if it seems blank.
    """

    number: int
    key: str
    path: Path
    capacity_bytes: int
    controller: str
    content: str

    def description(self) -> dict[str, object]:
        """Return the disk in the form that descriptions use."""
        return {
            "number": self.number,
            "key": self.key,
            "device": str(self.path),
            "capacity_bytes": self.capacity_bytes,
            "controller": self.controller,
            "is_boot": self.number == 0,
            "is_blank": not self.content,
            "content": self.content,
        }


class RescueMachine(Protocol):
    """The machine that a restore writes to."""

    def disks(self) -> list[RescueDisk]:
        """Return the disks that may be overwritten, with the same numbers until the restart."""

    def restart(self) -> None:
        """Restart the machine; on a real machine this does not return."""


class LocalRescueMachine:
    """The machine that the agent runs on."""

    def __init__(
        self,
        left_out: Sequence[str] = (),
        sys_root: Path = Path("/sys"),
        dev_root: Path = Path("/dev"),
    ) -> None:
        self._left_out = left_out
        self._sys_root = sys_root
        self._dev_root = dev_root

    def disks(self) -> list[RescueDisk]:
        """Return all fixed disks except the one that carries the rescue medium."""
        found = find_disks(self._left_out, self._sys_root, self._dev_root)
        keys = hardware_keys(found)
        disks: list[RescueDisk] = []
        for disk, key in zip(found, keys):
            head, tail = _read_edges(disk.device)
            if _is_rescue_medium(head):
                continue
            content = _content(head, tail)
            controller = controller_of(disk.folder)
            disks.append(
                RescueDisk(len(disks), key, disk.device, disk.capacity_bytes, controller, content)
            )
        return disks

    def restart(self) -> None:
        """Flush all disks, eject the medium if possible, and restart."""
        os.sync()
        for device in sorted(self._dev_root.glob("sr[0-9]*")):
            _eject(device)
        ctypes.CDLL(None, use_errno=True).reboot(_RESTART)
        # Only a process without the privilege gets here.
        log.error("restart refused by the kernel errno=%d", ctypes.get_errno())


class FileRescueMachine:
    """A machine whose disks are raw files; a restart leaves a mark in `folder`."""

    def __init__(self, files: Sequence[ConfiguredDisk], folder: Path) -> None:
        self._files = files
        self._folder = folder

    def disks(self) -> list[RescueDisk]:
        """Return the configured files as disks."""
        disks = []
        for number, file in enumerate(self._files):
            content = _content(*_read_edges(file.path))
            capacity_bytes = file.path.stat().st_size // _SECTOR_BYTES * _SECTOR_BYTES
            disks.append(RescueDisk(number, file.key, file.path, capacity_bytes, "", content))
        return disks

    def restart(self) -> None:
        """Leave the mark."""
        (self._folder / "restarted").touch()


def check_fits(capacity_bytes: int, disk_bytes: int, device: str) -> None:
    """Check that a disk of the recovery point fits onto a disk of the rescue machine.

    Raises:
        DiskTooSmall: it does not.
    """
    missing_bytes = capacity_bytes - disk_bytes
    if missing_bytes > 0:
        raise DiskTooSmall(
            f"The disk {device} has {disk_bytes} bytes, but the disk in the recovery point has "
            f"{capacity_bytes}. It is too small by {missing_bytes} bytes. Nothing was written. "
            "Use a larger disk.",
            missing_bytes,
        )


def _read_edges(path: Path) -> tuple[bytes, bytes]:
    """Return the first and the last MiB of a disk.

    Raises:
        RestoreFailed: the disk cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as disk:
            head = disk.read(_EDGE_BYTES) or b""
            capacity_bytes = os.lseek(disk.fileno(), 0, os.SEEK_END)
            tail = os.pread(disk.fileno(), _EDGE_BYTES, max(0, capacity_bytes - _EDGE_BYTES))
    except OSError as error:
        raise RestoreFailed(f"Reading the disk {path}: {error.strerror}") from error
    return head, tail


def _content(head: bytes, tail: bytes) -> str:
    if not any((head.strip(b"\0"), tail.strip(b"\0"))):
        return ""
    return key_of_content(head.ljust(4096, b"\0")) or "unknown data"


def _is_rescue_medium(head: bytes) -> bool:
    """Recognize a stick with the rescue medium by its ISO 9660 volume descriptor."""
    volume = head[_ISO_VOLUME_OFFSET : _ISO_VOLUME_OFFSET + 72]
    return volume[1:6] == b"CD001" and volume[40:].startswith(RESCUE_VOLUME)


def _eject(device: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _CDROM_EJECT)
        finally:
            os.close(descriptor)
