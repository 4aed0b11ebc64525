"""A delegation: a core that a machine trusts states that another core may protect it too.

It lets the agent of any recovery point answer the target core, also of a point that was taken
before the agent had heard of that core. It is a certificate for the other core's key, issued by the
trusted core: the handshake has checked the signature before anything here is read, and the other
core has to prove that the key is its own. A name in it binds it to one machine and numbers it:

    urn:understudy:delegation:1:<SHA-256 of the agent's certificate in hex>:<number>

The issuing core withdraws delegations by telling the agent the least number that still counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_NUMBER = 2**31 - 1
_NAME = re.compile(r"urn:understudy:delegation:1:([0-9a-f]{64}):([1-9][0-9]{0,9})")


@dataclass(frozen=True)
class Delegation:
    """What a delegation says. `issuer` is the issuing core's name in its own certificate."""

    issuer: object
    core_name: str
    agent_fingerprint: str
    number: int


def delegation_name(agent_fingerprint: str, number: int) -> str:
    """Return the name that a delegation's certificate carries as its URI."""
    return f"urn:understudy:delegation:1:{agent_fingerprint}:{number}"


def find_name(name: str) -> tuple[str, int] | None:
    """Return the agent's fingerprint and the number that a name holds; None if it is another."""
    found = _NAME.fullmatch(name)
    if found is None or int(found[2]) > MAX_NUMBER:
        return None
    return found[1], int(found[2])


def find_delegation(certificate: Mapping[str, Any]) -> Delegation | None:
    """Read a peer's certificate as `ssl.SSLSocket.getpeercert` returns it; None if it is another.

    The certificate must have been verified against the trusted cores' certificates.
    """
    for kind, name in certificate.get("subjectAltName", ()):
        found = find_name(name) if kind == "URI" else None
        if found is not None:
            return Delegation(
                issuer=certificate.get("issuer"),
                core_name=_organization(certificate.get("subject", ())),
                agent_fingerprint=found[0],
                number=found[1],
            )
    return None


def _organization(subject: Iterable[Iterable[tuple[str, str]]]) -> str:
    parts = {key: value for part in subject for key, value in part}
    return parts.get("organizationName", "unnamed core")
