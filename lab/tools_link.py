"""The host's end of the guest tools' serial line: receive a machine's facts, ask it to act."""

import json
import logging
import socket
import threading
import time
from pathlib import Path
from typing import Any

from lab import qmp

log = logging.getLogger(__name__)
LONGEST_LINE_BYTES = 64 * 1024


class ToolsLink:
    """A thread that listens on one machine's tools port until the machine is off.

    Only one listener can be connected to a port; a second one receives nothing.
    """

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self._socket: socket.socket | None = None
        self._facts: dict[str, Any] = {}
        self._heard_at = 0.0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        return self._thread.is_alive()

    def facts(self, newest_seconds: float) -> dict[str, Any] | None:
        """Return the machine's last facts, if they are not older than `newest_seconds`."""
        with self._lock:
            if self._facts and time.monotonic() - self._heard_at <= newest_seconds:
                return self._facts
        return None

    def ask(self, act: str) -> bool:
        """Ask the guest to `reboot` or `shutdown`; return False if nothing listens there."""
        with self._lock:
            if self._socket is None or not self._facts:
                return False
            try:
                self._socket.sendall(act.encode() + b"\n")
            except OSError:
                return False
            return True

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _listen(self) -> None:
        try:
            with qmp.connect_unix(self._socket_path, 10) as connection:
                connection.settimeout(None)
                self._socket = connection
                with connection.makefile("rb") as lines:
                    while line := lines.readline(LONGEST_LINE_BYTES):
                        self._hear(line)
        except (OSError, ValueError) as error:
            log.info("the tools line ended socket=%s error=%s", self._socket_path, error)
        finally:
            with self._lock:
                self._socket = None

    def _hear(self, line: bytes) -> None:
        try:
            facts = json.loads(line)
        except ValueError:
            return
        if isinstance(facts, dict) and isinstance(facts.get("boot_id"), str):
            with self._lock:
                self._facts, self._heard_at = facts, time.monotonic()
