"""The proof of a one-time code, by which two sides learn each other's certificate.

The code is never sent. Each side proves that it knows the code with an HMAC, keyed with
scrypt(code), over both certificates and a nonce from each side. An attacker in the middle would
have to present another certificate, and then the proofs would not match. The caller goes first, so
only someone who knows the code receives the listener's proof. After a few wrong tries, the code is
void.

A core pairs with agents and with other cores in this way. Who keeps the code, and how, is not
decided here.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
from dataclasses import dataclass

MAX_WRONG_TRIES = 5
NONCE_BYTES = 32
SALT_BYTES = 16
# Whoever was dialled once with a wrong code can search it offline; 16 letters take too long.
SHORTEST_CODE = 16
# scrypt's n: a tenth of a second and 16 MiB for each try.
CODE_COST = 2**14
_CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_CONTEXT = b"understudy pairing 1"


class Side(enum.Enum):
    """Who proves; part of what is proven, so that no side can return the other's proof."""

    CORE = b"core"
    AGENT = b"agent"
    # Of two cores: the one that dials, and the one that made the code.
    CALLING_CORE = b"calling core"
    CALLED_CORE = b"called core"


@dataclass(frozen=True)
class Exchange:
    """What both sides of a pairing see: their certificates (DER), and a nonce from each."""

    caller_certificate: bytes
    listener_certificate: bytes
    caller_nonce: bytes
    listener_nonce: bytes

    def proof(self, side: Side, key: bytes) -> str:
        """Return the proof of `side` in hex. `key`: see `code_key`."""
        parts = (
            _CONTEXT,
            side.value,
            hashlib.sha256(self.caller_certificate).digest(),
            hashlib.sha256(self.listener_certificate).digest(),
            self.caller_nonce,
            self.listener_nonce,
        )
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.new(key, message, hashlib.sha256).hexdigest()

    def is_proof(self, shown: str, side: Side, key: bytes) -> bool:
        """Return whether `shown` is the proof of `side`; takes as long for every wrong one."""
        expected = self.proof(side, key)
        return secrets.compare_digest(shown.encode(errors="replace"), expected.encode())


def make_code() -> str:
    """Return a new one-time code: 80 random bits in four groups of four characters."""
    letters = [secrets.choice(_CODE_LETTERS) for _ in range(16)]
    return "-".join("".join(letters[start : start + 4]) for start in range(0, 16, 4))


def is_long_enough(code: str) -> bool:
    """Return whether a code that a person typed resists a search."""
    return len(_normal(code)) >= SHORTEST_CODE


def code_key(code: str, salt: bytes) -> bytes:
    """Return the key for the proofs; deliberately slow, see CODE_COST.

    Case, dashes and spaces of the code do not matter.
    """
    return hashlib.scrypt(_normal(code).encode(), salt=salt, n=CODE_COST, r=8, p=1, dklen=32)


def _normal(code: str) -> str:
    return "".join(letter for letter in code.upper() if letter.isalnum())
