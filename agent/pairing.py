"""Pairing on the agent's side: its one-time code, and how many tries are left."""

from __future__ import annotations

from agent.errors import ConfigurationWrong, PairingClosed, WrongPairingCode
from agent.proof import MAX_WRONG_TRIES, SHORTEST_CODE, is_long_enough, make_code
from agent.state import AgentState, PairingState, now_text


def check_code(code: str) -> None:
    """Check that a code that was set by hand resists a search.

    Raises:
        ConfigurationWrong: it is too short.
    """
    if not is_long_enough(code):
        raise ConfigurationWrong(
            f"The pairing code needs at least {SHORTEST_CODE} letters and digits"
        )


class Pairing:
    """One code, a few tries, and no reuse after a success."""

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
