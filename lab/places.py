"""Where the lab keeps its files, and which ports it listens on."""

import errno
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.advice import SetupFailed
from rescue_medium.sources import CACHE as CACHE
from rescue_medium.sources import ROOT as ROOT


def home() -> Path:
    """Return this lab's folder: `UNDERSTUDY_HOME`, or `.understudy` in the checkout."""
    return Path(os.environ.get("UNDERSTUDY_HOME") or ROOT / ".understudy").resolve()


def write_private(path: Path, text: str) -> None:
    """Replace a file with one that only its owner can read, completely or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_text(text)
    temporary.rename(path)


def port_shift() -> int:
    """Return the offset added to every port, so that two labs can run side by side."""
    text = os.environ.get("UNDERSTUDY_PORT_SHIFT", "0")
    if not text.isdecimal() or int(text) > 50_000:
        raise SystemExit(f"UNDERSTUDY_PORT_SHIFT must be a number from 0 to 50000, not {text!r}")
    return int(text)


def taken_ports(ports: "Ports") -> list[int]:
    """Return those of the lab's ports on 127.0.0.1 that are in use."""
    return [
        port
        for name, port in asdict(ports).items()
        if name != "agent" and _is_taken("127.0.0.1", port)
    ]


def refuse_taken(ports: "Ports") -> None:
    """Check that the lab's ports are free.

    Raises:
        SetupFailed: a port is in use; the text says what to do.
    """
    if taken := taken_ports(ports):
        raise SetupFailed(
            f"Another program uses port {', '.join(map(str, taken))} on 127.0.0.1. `ss -ltnp` "
            "shows which. Stop it, or move this lab: UNDERSTUDY_PORT_SHIFT=1000 make run"
        )


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


# Where the cores are in the network of each machine.
SOURCE_CORE_AT, TARGET_CORE_AT = "10.0.2.101", "10.0.2.102"


@dataclass(frozen=True)
class Ports:
    """The ports of one lab, shifted."""

    agent: int
    source_console: int
    source_core: int
    source_redis: int
    target_console: int
    target_core: int
    target_redis: int
    vcenter: int

    @property
    def cores(self) -> dict[str, int]:
        """The ports of the core interfaces, by the addresses at which machines reach them."""
        return {SOURCE_CORE_AT: self.source_core, TARGET_CORE_AT: self.target_core}

    @classmethod
    def shifted(cls, shift: int) -> "Ports":
        return cls(
            agent=8006 + shift,
            source_console=8100 + shift,
            source_core=8101 + shift,
            source_redis=8190 + shift,
            target_console=8000 + shift,
            target_core=8001 + shift,
            target_redis=8090 + shift,
            vcenter=8443 + shift,
        )
