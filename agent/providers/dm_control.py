"""The kernel's device mapper through its ioctls, since no process may be started during a freeze.

The structures are those of <linux/dm-ioctl.h>, version 4.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_HEADER = struct.Struct("=3I I I I i I I I Q 128s 129s 7s")
_HEADER_BYTES = 312
_TARGET = struct.Struct("=Q Q i I 16s")
_TARGET_BYTES = 40
_MAX_ANSWER_BYTES = 16 * 1024
_IOCTL_BASE = 0xC138FD00  # _IOWR(0xfd, n, struct dm_ioctl)
_DEV_CREATE = _IOCTL_BASE | 3
_DEV_REMOVE = _IOCTL_BASE | 4
_DEV_SUSPEND = _IOCTL_BASE | 6
_DEV_STATUS = _IOCTL_BASE | 7
_TABLE_LOAD = _IOCTL_BASE | 9
_TABLE_CLEAR = _IOCTL_BASE | 10
_TABLE_STATUS = _IOCTL_BASE | 12
_SUSPEND_FLAG = 1 << 1
_STATUS_TABLE_FLAG = 1 << 4
_SKIP_LOCKFS_FLAG = 1 << 10
_INACTIVE_TABLE_FLAG = 1 << 12

if _HEADER.size != _HEADER_BYTES or _TARGET.size != _TARGET_BYTES:
    raise AssertionError("the device mapper's structures have the wrong size")


class Target(NamedTuple):
    """One line of a table, in sectors."""

    start_sector: int
    sectors: int
    kind: str
    parameters: str


class DmControl:
    """An open /dev/mapper/control. Every method is one ioctl and raises OSError.

    ioctl: called as `fcntl.ioctl` is.
    """

    def __init__(
        self,
        path: Path = Path("/dev/mapper/control"),
        ioctl: Callable[[int, int, bytearray, bool], object] = fcntl.ioctl,
    ) -> None:
        self._ioctl = ioctl
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the control; the devices stay."""
        os.close(self._descriptor)

    def create(self, name: str) -> str:
        """Create a device without a table, and return its kernel name, such as `dm-3`."""
        answer = self._call(_DEV_CREATE, _request(name))
        return f"dm-{os.minor(_device_number(answer))}"

    def load(self, name: str, target: Target) -> None:
        """Load a table beside the live one; `resume` makes it live."""
        self._call(_TABLE_LOAD, table_request(name, target))

    def clear(self, name: str) -> None:
        """Discard the table that was loaded but is not live."""
        self._call(_TABLE_CLEAR, _request(name))

    def suspend(self, name: str) -> None:
        """Wait for reads and writes in progress, and hold back new ones."""
        self._call(_DEV_SUSPEND, suspend_request(name))

    def resume(self, name: str) -> None:
        """Make the loaded table live, if there is one, and resume reads and writes."""
        self._call(_DEV_SUSPEND, resume_request(name))

    def remove(self, name: str) -> None:
        """Remove a device that is not open."""
        self._call(_DEV_REMOVE, _request(name))

    def exists(self, name: str) -> bool:
        """Tell whether a device with that name exists."""
        try:
            self._call(_DEV_STATUS, _request(name))
        except OSError:
            return False
        return True

    def table(self, name: str) -> list[Target]:
        """Return the live table."""
        return self._targets(name, _STATUS_TABLE_FLAG)

    def loaded_table(self, name: str) -> list[Target]:
        """Return the table that was loaded but is not live; empty if there is none."""
        return self._targets(name, _STATUS_TABLE_FLAG | _INACTIVE_TABLE_FLAG)

    def status(self, name: str) -> list[Target]:
        """Return the status of each target of the live table."""
        return self._targets(name, 0)

    def _targets(self, name: str, flags: int) -> list[Target]:
        answer = self._call(_TABLE_STATUS, _request(name, flags, room_bytes=_MAX_ANSWER_BYTES))
        fields = _HEADER.unpack_from(answer)
        position, count = fields[4], fields[5]
        targets = []
        start = position
        for _ in range(count):
            first, length, _status, following, kind = _TARGET.unpack_from(answer, start)
            text = answer[start + _TARGET_BYTES : position + following].split(b"\0")[0]
            targets.append(Target(first, length, _text(kind), text.decode(errors="replace")))
            start = position + following
        return targets

    def _call(self, number: int, request: bytes) -> bytearray:
        answer = bytearray(request)
        self._ioctl(self._descriptor, number, answer, True)
        return answer


def suspend_request(name: str) -> bytes:
    """Return the request to suspend a device whose file systems are already frozen."""
    return _request(name, _SUSPEND_FLAG | _SKIP_LOCKFS_FLAG)


def resume_request(name: str) -> bytes:
    """Return the request to resume."""
    return _request(name, _SKIP_LOCKFS_FLAG)


def table_request(name: str, target: Target) -> bytes:
    """Return the request to load a table with one target."""
    parameters = target.parameters.encode() + b"\0"
    parameters += bytes(-len(parameters) % 8)
    line = _TARGET.pack(
        target.start_sector,
        target.sectors,
        0,
        _TARGET_BYTES + len(parameters),
        target.kind.encode(),
    )
    return _request(name, 0, line + parameters, target_count=1)


def _request(
    name: str, flags: int = 0, data: bytes = b"", target_count: int = 0, room_bytes: int = 0
) -> bytes:
    length_bytes = _HEADER_BYTES + len(data) + room_bytes
    header = _HEADER.pack(
        *(4, 0, 0),
        length_bytes,
        _HEADER_BYTES,
        target_count,
        *(0, flags, 0, 0, 0),
        name.encode(),
        b"",
        b"",
    )
    return header + data + bytes(room_bytes)


def _device_number(answer: bytes | bytearray) -> int:
    number: int = _HEADER.unpack_from(answer)[10]
    # The kernel's 32-bit encoding puts the major number between two parts of the minor number.
    return os.makedev((number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00))


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode(errors="replace")
