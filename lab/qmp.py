"""Talk to a running QEMU through its monitor socket."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class MonitorFailed(Exception):
    """The monitor does not answer, or rejects a command."""


@contextmanager
def connect_unix(path: Path, limit_seconds: float) -> Iterator[socket.socket]:
    """Connect to a Unix socket whose path may exceed the kernel's limit of 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(limit_seconds)
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            yield connection
    finally:
        os.close(folder)


def execute(socket_path: Path, command: str, limit_seconds: float = 10, **arguments: Any) -> Any:
    """Run one monitor command and return its result.

    Raises:
        MonitorFailed: no answer in time, the socket is gone, or the command was rejected.
    """
    try:
        with connect_unix(socket_path, limit_seconds) as connection:
            lines = connection.makefile("rw", encoding="utf-8")
            lines.readline()
            _ask(lines, "qmp_capabilities", {})
            return _ask(lines, command, arguments)
    except (OSError, ValueError) as error:
        raise MonitorFailed(f"{command} at {socket_path}: {error}") from error


def _ask(lines: Any, command: str, arguments: dict[str, Any]) -> Any:
    lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    lines.flush()
    while line := lines.readline():
        answer = json.loads(line)
        if "return" in answer:
            return answer["return"]
        if "error" in answer:
            raise MonitorFailed(f"{command}: {answer['error'].get('desc', answer['error'])}")
    raise MonitorFailed(f"{command}: the monitor closed the connection")
