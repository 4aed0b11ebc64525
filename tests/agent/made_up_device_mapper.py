"""A device mapper that answers the kernel's ioctls, by the rules that the agent relies on.

The computer that runs the tests may have none. Requests are read and answers written by the offsets
of <linux/dm-ioctl.h>, not by the agent's own structures.
"""

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.providers.dm_control import DmControl

HEADER_BYTES = 312
VERBS = {
    0xC138FD03: "create",
    0xC138FD04: "remove",
    0xC138FD06: "suspend",  # or resume, by a flag
    0xC138FD07: "exists",
    0xC138FD09: "load",
    0xC138FD0A: "clear",
    0xC138FD0C: "status",
}
SUSPEND, STATUS_TABLE, SKIP_LOCKFS, INACTIVE_TABLE = 1 << 1, 1 << 4, 1 << 10, 1 << 12
FIRST_MINOR = 300  # more than a byte holds

Line = tuple[int, int, str, str]  # first sector, sectors, kind, parameters


@dataclass
class Device:
    """One device; a view also has what its status says."""

    minor: int
    live: list[Line] = field(default_factory=list)
    loaded: list[Line] | None = None
    is_suspended: bool = False
    status: str = "16/2048 16"
    suspended_at_begin: set[str] = field(default_factory=set)


class MadeUpDeviceMapper:
    """Devices by name.

    journal: a line for each change, written to a file that a forked watchdog shares.
    failures: the error for a verb and a device's name, once for each number in the list.
    on_call(verb, name): called before each change.
    """

    def __init__(self, folder: Path) -> None:
        self.devices: dict[str, Device] = {}
        self.failures: dict[tuple[str, str], list[int]] = {}
        self.on_call: Callable[[str, str], object] = lambda _verb, _name: None
        self._journal = folder / "journal"
        self._journal.touch()
        self._next_minor = FIRST_MINOR

    def open(self) -> DmControl:
        """Return a control whose ioctls come here."""
        return DmControl(Path(os.devnull), self.ioctl)

    def add(self, name: str, *lines: Line) -> Device:
        """A device that was there before."""
        self.devices[name] = Device(self._next_minor, list(lines))
        self._next_minor += 1
        return self.devices[name]

    def journal(self) -> list[str]:
        """Return what was changed so far, as `verb name`."""
        return self._journal.read_text().splitlines()

    def ioctl(self, _descriptor: int, number: int, request: bytearray, mutate: bool) -> int:
        assert mutate
        assert struct.unpack_from("=3I", request)[0] == 4
        length_bytes, start_bytes, lines = struct.unpack_from("=3I", request, 12)
        assert length_bytes == len(request)
        assert start_bytes == HEADER_BYTES
        (flags,) = struct.unpack_from("=I", request, 28)
        name = request[48:176].split(b"\0")[0].decode()
        verb = VERBS[number]
        if verb == "suspend" and not flags & SUSPEND:
            verb = "resume"
        if verb in ("suspend", "resume"):
            assert flags & SKIP_LOCKFS  # the kernel must not freeze what the agent has frozen
        self._note(verb, name)
        if verb == "create":
            self._create(name, request)
            return 0
        if name not in self.devices:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        device = self.devices[name]
        if verb == "remove":
            del self.devices[name]
        elif verb == "suspend":
            device.is_suspended = True
        elif verb == "resume":
            self._resume(device)
        elif verb == "load":
            assert lines == 1
            device.loaded = [_line(request)]
        elif verb == "clear":
            device.loaded = None
        elif verb == "status":
            _answer(request, self._lines(device, flags))
        return 0

    def _note(self, verb: str, name: str) -> None:
        if verb in ("exists", "status"):
            return
        self.on_call(verb, name)
        if numbers := self.failures.get((verb, name)):
            number = numbers.pop(0)
            raise OSError(number, os.strerror(number))
        descriptor = os.open(self._journal, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, f"{verb} {name}\n".encode())
        os.close(descriptor)

    def _create(self, name: str, request: bytearray) -> None:
        if name in self.devices:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        minor = self.add(name).minor
        struct.pack_into("=Q", request, 40, minor & 0xFF | 254 << 8 | (minor & ~0xFF) << 12)

    def _resume(self, device: Device) -> None:
        if device.loaded is not None:
            device.live, device.loaded = device.loaded, None
            device.suspended_at_begin = {
                name for name, other in self.devices.items() if other.is_suspended
            }
        device.is_suspended = False

    def _lines(self, device: Device, flags: int) -> list[Line]:
        if flags & INACTIVE_TABLE:
            return device.loaded or []
        if flags & STATUS_TABLE:
            return device.live
        return [(first, count, kind, device.status) for first, count, kind, _ in device.live]


def _line(request: bytearray) -> Line:
    first, count, _status, following = struct.unpack_from("=QQiI", request, HEADER_BYTES)
    kind = request[336:352].split(b"\0")[0].decode()
    assert HEADER_BYTES + following == len(request)
    assert following % 8 == 0
    return first, count, kind, request[352:].split(b"\0")[0].decode()


def _answer(request: bytearray, lines: list[Line]) -> None:
    struct.pack_into("=I", request, 20, len(lines))
    place = HEADER_BYTES
    for first, count, kind, parameters in lines:
        text = parameters.encode() + b"\0"
        end = -(-(place + 40 + len(text)) // 8) * 8
        struct.pack_into(
            "=QQiI16s", request, place, first, count, 0, end - HEADER_BYTES, kind.encode()
        )
        request[place + 40 : place + 40 + len(text)] = text
        place = end
