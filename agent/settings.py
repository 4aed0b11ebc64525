"""Read the settings disk at the start, and believe it only if a core vouches for it that may.

That is a core that the machine trusts, or one that such a core has delegated this very machine to;
the delegation is on the disk. What is not believed is logged and ignored. Believed or not, a disk
makes the machine trust nobody: it only names cores to announce the machine to.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.delegation import find_name
from agent.errors import ProtocolBroken
from agent.home import Home, read_home
from agent.protocol import get_text
from agent.settings_disk import SETTINGS_DISK_BYTES, find_settings_disks, read_start
from agent.settings_disk import split_settings_disk as split
from agent.state import AgentState, TrustedCore
from agent.tls import MAX_CERTIFICATE_CHARACTERS, check_certificate, fingerprint_of

log = logging.getLogger(__name__)

MAX_DISKS = 4
MAX_CORES = 8
MAX_DELEGATIONS = 8
_OPENSSL_SECONDS = 20


class SettingsRefused(Exception):
    """A settings disk is malformed, of another machine, or nobody vouches for it who may."""


@dataclass(frozen=True)
class Settings:
    """What a settings disk says.

    agent_fingerprint: SHA-256 of the certificate of the agent that it is for.
    delegations: PEM certificates; one of them may name the core that signed it all.
    """

    agent_fingerprint: str
    homes: tuple[Home, ...]
    delegations: tuple[str, ...]


def homes_on_settings_disks(
    state: AgentState, sys_root: Path = Path("/sys"), dev_root: Path = Path("/dev")
) -> list[Home]:
    """Return the cores that the settings disks name, if there are any to be believed."""
    certificate_path = state.folder / "agent.pem"
    if not certificate_path.exists():  # no core knows this agent yet
        return []
    agent_fingerprint = fingerprint_of(certificate_path.read_text())
    homes: list[Home] = []
    for device in list(find_settings_disks(sys_root, dev_root))[:MAX_DISKS]:
        try:
            disk = read_start(device, SETTINGS_DISK_BYTES)
            found = read_settings(disk, state, agent_fingerprint).homes
        except (SettingsRefused, OSError) as error:
            log.warning("settings disk ignored device=%s reason=%s", device, error)
            continue
        log.info("settings disk read device=%s cores=%d", device, len(found))
        homes += found
    return homes


def read_settings(disk: bytes, state: AgentState, agent_fingerprint: str) -> Settings:
    """Return what a settings disk says to this agent.

    Raises:
        SettingsRefused: it is not to be believed; the text says why.
    """
    try:
        document, signature = split(disk)
        settings = _parse(json.loads(document))
    except (ValueError, RecursionError, ProtocolBroken) as error:
        raise SettingsRefused(f"The settings disk cannot be read: {error}") from error
    if settings.agent_fingerprint != agent_fingerprint:
        raise SettingsRefused("The settings disk is for another machine")
    with tempfile.TemporaryDirectory(prefix="understudy-settings-") as folder:
        signed = _Signed(Path(folder), document, signature)
        if not _is_vouched_for(signed, settings, state):
            raise SettingsRefused(
                "The settings disk is signed neither by a core that this machine trusts nor by one "
                "that such a core has delegated it to"
            )
    return settings


def _parse(document: Any) -> Settings:
    if not isinstance(document, dict):
        raise ProtocolBroken("The document is not an object")
    machine_id = get_text(document, "machine_id", 36)
    return Settings(
        agent_fingerprint=get_text(document, "agent_fingerprint", 64),
        homes=tuple(
            _home(core, machine_id) for core in _objects(document, "cores", dict, MAX_CORES)
        ),
        delegations=tuple(_objects(document, "delegations", str, MAX_DELEGATIONS)),
    )


def _objects(document: dict[str, Any], name: str, kind: type, limit: int) -> list[Any]:
    entries = document.get(name)
    if not isinstance(entries, list) or len(entries) > limit:
        raise ProtocolBroken(f"{name} is not a list of at most {limit}")
    if not all(isinstance(entry, kind) for entry in entries):
        raise ProtocolBroken(f"An entry of {name} is malformed")
    return entries


def _home(core: dict[str, Any], machine_id: str) -> Home:
    certificate_pem = check_certificate(
        get_text(core, "certificate_pem", MAX_CERTIFICATE_CHARACTERS)
    )
    told = {"host": core.get("host"), "port": core.get("port"), "machine_id": machine_id}
    home = read_home({"home": told}, certificate_pem, "")
    if home is None or not home.host:
        raise ProtocolBroken("A core has no address")
    return home


def _is_vouched_for(signed: _Signed, settings: Settings, state: AgentState) -> bool:
    cores = state.trusted_cores()
    if any(signed.is_by(core.certificate_pem) for core in cores):
        return True
    least = state.least_delegations()
    return any(
        signed.is_by(delegation)
        and _delegates(signed, delegation, cores, settings.agent_fingerprint, least)
        for delegation in settings.delegations
    )


def _delegates(
    signed: _Signed,
    delegation: str,
    cores: Sequence[TrustedCore],
    agent_fingerprint: str,
    least: dict[str, int],
) -> bool:
    numbers = [
        number for named, number in signed.names_in(delegation) if named == agent_fingerprint
    ]
    return any(
        max(numbers, default=0) >= least.get(core.fingerprint, 1)
        and signed.is_issued_by(delegation, core.certificate_pem)
        for core in cores
    )


class _Signed:
    """A signed document; openssl looks at its signature and at certificates.

    It looks only into this folder, so no certificate authority of the system counts.
    """

    def __init__(self, folder: Path, document: bytes, signature: bytes) -> None:
        self._folder = folder
        (folder / "document").write_bytes(document)
        (folder / "signature").write_bytes(signature)

    def is_by(self, certificate_pem: str) -> bool:
        """Tell whether the key of a certificate has signed the document."""
        key = self._openssl("x509", "-noout", "-pubkey", "-in", self._file("one", certificate_pem))
        if key is None:
            return False
        verify = ("dgst", "-sha256", "-verify", self._file("key", key))
        return self._openssl(*verify, "-signature", "signature", "document") is not None

    def names_in(self, certificate_pem: str) -> list[tuple[str, int]]:
        """Return the machines that a delegation is about, each with its number."""
        shown = self._openssl(
            *("x509", "-noout", "-ext", "subjectAltName"),
            *("-in", self._file("one", certificate_pem)),
        )
        uris = re.findall(r"URI:([^\s,]{1,300})", shown or "")
        return [found for found in map(find_name, uris) if found]

    def is_issued_by(self, certificate_pem: str, issuer_pem: str) -> bool:
        """Tell whether a certificate was issued by another, whatever the clock says."""
        files = (self._file("issuer", issuer_pem), self._file("one", certificate_pem))
        verify = ("verify", "-partial_chain", "-no_check_time", "-CAfile")
        return self._openssl(*verify, *files) is not None

    def _file(self, name: str, text: str) -> str:
        (self._folder / name).write_text(text)
        return name

    def _openssl(self, *arguments: str) -> str | None:
        """Return what openssl prints; None if it fails."""
        try:
            done = subprocess.run(
                ["openssl", *arguments],
                cwd=self._folder,
                env={**os.environ, "SSL_CERT_DIR": "none", "SSL_CERT_FILE": "none"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_OPENSSL_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SettingsRefused(f"The signature cannot be checked: {error}") from error
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None
