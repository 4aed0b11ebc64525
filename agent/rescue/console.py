"""What a rescue machine shows on its screen: its address and its pairing code."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.errors import PairingClosed
from agent.machine import ipv4_addresses
from agent.pairing import Pairing
from agent.proof import make_code

log = logging.getLogger(__name__)

_POLL_SECONDS = 2.0
_BANNER = """
  Understudy rescue medium. This machine is waiting to be restored; its disks will be overwritten.

    Address   {addresses}
    Port      {port}
    Code      {code}
    Agent     {fingerprint}

  Enter address, port and code on the core that restores this machine.
"""


class RescueConsole:
    """Writes to all consoles, and again when the address or the code changes.

    A code that has been used, or was wrong too often, is replaced automatically: there is no other
    way to make one here, and only a person at the machine's screen can read it.
    """

    def __init__(
        self,
        consoles: Sequence[Path],
        pairing: Pairing,
        fingerprint: str,
        find_addresses: Callable[[], Sequence[str]] = ipv4_addresses,
    ) -> None:
        self._consoles = consoles
        self._pairing = pairing
        self._fingerprint = fingerprint
        self._find_addresses = find_addresses
        self._shown: tuple[object, ...] = ()
        self._lock = threading.Lock()
        self._is_stopped = threading.Event()

    def start(self, port: int) -> None:
        """Show the banner, and poll for changes in the background."""
        self.refresh(port)
        threading.Thread(target=self._watch, args=(port,), name="console", daemon=True).start()

    def stop(self) -> None:
        """Stop polling."""
        self._is_stopped.set()

    def refresh(self, port: int) -> None:
        """Show the banner if its content has changed."""
        code = self._ensure_code()
        addresses = tuple(self._find_addresses())
        if (code, addresses) == self._shown:
            return
        self._shown = (code, addresses)
        banner = _BANNER.format(
            addresses=", ".join(addresses) or "none yet: waiting for the network",
            port=port,
            code=code,
            fingerprint=self._fingerprint,
        )
        self.tell(
            f"{banner}\nunderstudy-rescue address={addresses[0] if addresses else '-'} "
            f"port={port} code={code} fingerprint={self._fingerprint}"
        )

    def tell(self, text: str) -> None:
        """Write a text to all consoles, skipping those that cannot be opened."""
        with self._lock:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
            for path in self._consoles:
                _write(path, text + "\n")

    def _ensure_code(self) -> str:
        try:
            return self._pairing.get_code()
        except PairingClosed:
            code = make_code()
            self._pairing.open(code)
            return code

    def _watch(self, port: int) -> None:
        while not self._is_stopped.wait(_POLL_SECONDS):
            self.refresh(port)


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        log.warning("console not written path=%s reason=%s", path, error.strerror)
    finally:
        os.close(descriptor)
