"""What the agent remembers between starts: the cores it trusts, and the state of pairing.

It is stored on the disks that a recovery point holds. So after a failover, the machine still
answers the cores that it knew before.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from agent.errors import ConfigurationWrong, RequestRefused
from agent.home import Home
from agent.tls import fingerprint_of, sync_path

MAX_TRUSTED_CORES = 16
MAX_HOMES_OF_A_CORE = 4


@dataclass(frozen=True)
class TrustedCore:
    """A core whose requests the agent answers."""

    name: str
    fingerprint: str
    certificate_pem: str
    trusted_at: str


@dataclass(frozen=True)
class PairingState:
    """The one-time code, the number of wrong tries, and when the code was used."""

    code: str | None
    wrong_tries: int = 0
    used_at: str | None = None


class AgentState:
    """The state folder. A change is on the disk when its method returns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def trusted_cores(self) -> list[TrustedCore]:
        """Return the trusted cores, oldest first."""
        entries = self._read("trusted-cores.json") or []
        try:
            return [TrustedCore(**entry) for entry in entries]
        except TypeError as error:
            raise self._wrong("trusted-cores.json", error) from error

    def ensure_trusted_core(self, name: str, certificate_pem: str) -> TrustedCore:
        """Trust a core; a core that is already trusted gets the new name.

        Raises:
            RequestRefused: there are too many trusted cores.
        """
        fingerprint = fingerprint_of(certificate_pem)
        new_core = TrustedCore(name, fingerprint, certificate_pem, now_text())
        with self.lock:
            others = [core for core in self.trusted_cores() if core.fingerprint != fingerprint]
            if len(others) >= MAX_TRUSTED_CORES:
                raise RequestRefused(
                    f"Trusting core {name!r}: {len(others)} cores are already trusted, which is "
                    "the limit. Remove one from trusted-cores.json on the machine."
                )
            self._write("trusted-cores.json", [asdict(core) for core in [*others, new_core]])
        return new_core

    def homes(self) -> list[Home]:
        """Return where the trusted cores are; of each, the address heard last comes first."""
        trusted = {core.certificate_pem for core in self.trusted_cores()}
        return [home for home in self._homes() if home.certificate_pem in trusted]

    def remember_home(self, home: Home) -> None:
        """Remember where a trusted core is, beside its last few addresses; writes what is new."""
        with self.lock:
            known = self.homes()
            own = [one for one in known if one.certificate_pem == home.certificate_pem]
            is_trusted = any(
                core.certificate_pem == home.certificate_pem for core in self.trusted_cores()
            )
            if not is_trusted or (own and own[0] == home):
                return
            others = [one for one in known if one.certificate_pem != home.certificate_pem]
            kept = [home, *(one for one in own if one != home)][:MAX_HOMES_OF_A_CORE]
            self._write("homes.json", [asdict(one) for one in [*kept, *others]])

    def _homes(self) -> list[Home]:
        entries = self._read("homes.json") or []
        try:
            return [Home(**entry) for entry in entries]
        except TypeError as error:
            raise self._wrong("homes.json", error) from error

    def least_delegations(self) -> dict[str, int]:
        """Return the least number that counts of each core's delegations, by its fingerprint."""
        entries = self._read("delegations.json") or {}
        if not isinstance(entries, dict) or not all(isinstance(n, int) for n in entries.values()):
            raise self._wrong("delegations.json", TypeError("expected numbers by fingerprint"))
        return entries

    def withdraw_delegations(self, fingerprint: str, below: int) -> None:
        """Let no delegation of that core count whose number is lower. Never lowers the number."""
        with self.lock:
            least = self.least_delegations()
            if least.get(fingerprint, 0) < below:
                self._write("delegations.json", {**least, fingerprint: below})

    def find_pairing(self) -> PairingState | None:
        """Return the state of pairing, or None before the first start."""
        entry = self._read("pairing.json")
        try:
            return None if entry is None else PairingState(**entry)
        except TypeError as error:
            raise self._wrong("pairing.json", error) from error

    def save_pairing(self, pairing: PairingState) -> None:
        """Replace the pairing state."""
        with self.lock:
            self._write("pairing.json", asdict(pairing))

    def find_restores(self) -> dict[str, Any] | None:
        """Return what a rescue machine has recorded of its disks, or None if nothing."""
        entries = self._read("restores.json")
        if entries is not None and not isinstance(entries, dict):
            raise self._wrong("restores.json", TypeError("expected a JSON object"))
        return entries

    def save_restores(self, entries: dict[str, Any]) -> None:
        """Replace what a rescue machine has recorded of its disks."""
        with self.lock:
            self._write("restores.json", entries)

    def _read(self, name: str) -> Any:
        path = self.folder / name
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._wrong(name, error) from error

    def _write(self, name: str, content: Any) -> None:
        temporary = self.folder / f".{name}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.folder / name)
        sync_path(self.folder)

    def _wrong(self, name: str, error: Exception) -> ConfigurationWrong:
        return ConfigurationWrong(f"Reading {self.folder / name}: {error}")


def now_text() -> str:
    """Return the current time in UTC, in ISO format."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
