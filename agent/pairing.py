"""Pairing: agent and core learn each other's certificate, and a one-time code proves both.

The code is never sent. Each side proves that it knows the code with an HMAC, keyed with
scrypt(code), over both certificates and a nonce from each side. An attacker in the middle would
have to present another certificate, and then the proofs would not match. The core goes first, so
only someone who knows the code receives the agent's proof. After a few wrong tries, pairing is
closed until a new code is made on the machine.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from agent.errors import ConfigurationWrong, PairingClosed, WrongPairingCode
from agent.state import AgentState, PairingState, now_text

MAX_WRONG_TRIES = 5
NONCE_BYTES = 32
# Whoever was dialled once with a wrong code can search it offline; 16 letters take too long.
_SHORTEST_CODE = 16
_CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_CONTEXT = b"understudy pairing 1"


def make_code() -> str:
    """Return a new one-time code: 80 random bits in four groups of four characters."""
    letters = [secrets.choice(_CODE_LETTERS) for _ in range(16)]
    return "-".join("".join(letters[start : start + 4]) for start in range(0, 16, 4))


def normal_code(code: str) -> str:
    """Return a code in the form that is compared: capitals, without spaces and dashes."""
    return "".join(letter for letter in code.upper() if letter.isalnum())


def check_code(code: str) -> None:
    """Check that a code that was set by hand resists a search.

    Raises:
        ConfigurationWrong: it is too short.
    """
    if len(normal_code(code)) < _SHORTEST_CODE:
        raise ConfigurationWrong(
            f"The pairing code needs at least {_SHORTEST_CODE} letters and digits"
        )


def code_key(code: str, salt: bytes) -> bytes:
    """Return the key for the proofs; deliberately takes a tenth of a second and 16 MiB."""
    return hashlib.scrypt(normal_code(code).encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)


def proof(
    key: bytes,
    side: bytes,
    core_certificate_der: bytes,
    agent_certificate_der: bytes,
    core_nonce: bytes,
    agent_nonce: bytes,
) -> str:
    """Return the proof of `side` (b"core" or b"agent") in hex."""
    parts = (
        _CONTEXT,
        side,
        hashlib.sha256(core_certificate_der).digest(),
        hashlib.sha256(agent_certificate_der).digest(),
        core_nonce,
        agent_nonce,
    )
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.new(key, message, hashlib.sha256).hexdigest()


class Pairing:
    """The agent's side: one code, a few tries, and no reuse after a success."""

    def __init__(self, state: AgentState, configured_code: str | None) -> None:
        self._state = state
        if state.find_pairing() is None:
            self.open(configured_code or make_code())

    def open(self, code: str) -> None:
        """Open pairing with a new code.

        Raises:
            ConfigurationWrong: the code is too short to resist guessing.
        """
        check_code(code)
        self._state.save_pairing(PairingState(code=code))

    def find_code(self) -> str | None:
        """Return the code if pairing is open."""
        pairing = self._state.find_pairing()
        return pairing.code if pairing and pairing.wrong_tries < MAX_WRONG_TRIES else None

    def get_code(self) -> str:
        """Return the code.

        Raises:
            PairingClosed: the code has been used, or was wrong too often; the text says which.
        """
        code = self.find_code()
        if code is not None:
            return code
        pairing = self._state.find_pairing()
        if pairing and pairing.used_at:
            why = f"the pairing code was used at {pairing.used_at}"
        else:
            why = f"the pairing code was wrong {MAX_WRONG_TRIES} times"
        raise PairingClosed(
            f"Pairing with this agent is closed: {why}. "
            "Make a new code on the machine with `understudy-agent new-code`."
        )

    def count_try(self, code: str) -> None:
        """Count a try before checking it, so that cutting the connection cannot avoid the count.

        Raises:
            PairingClosed: no tries are left, or the code has been replaced in the meantime.
        """
        with self._state.lock:
            if self.get_code() != code:
                raise PairingClosed("The pairing code has just been replaced. Use the new one.")
            tries = self._tries() + 1
            self._state.save_pairing(PairingState(code=code, wrong_tries=tries))

    def refuse(self) -> WrongPairingCode:
        """Return an error that says how many tries are left."""
        left_tries = MAX_WRONG_TRIES - self._tries()
        text = f"{left_tries} tries left" if left_tries else "pairing is now closed"
        return WrongPairingCode(f"The pairing code is wrong: {text}.")

    def use_up(self) -> None:
        """Close pairing after a success."""
        self._state.save_pairing(PairingState(code=None, used_at=now_text()))

    def _tries(self) -> int:
        pairing = self._state.find_pairing()
        return pairing.wrong_tries if pairing else 0
