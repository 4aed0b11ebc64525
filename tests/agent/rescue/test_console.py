"""What a rescue machine shows: always a code that is open, and where it is."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import PairingClosed, WrongPairingCode
from agent.pairing import Pairing
from agent.proof import MAX_WRONG_TRIES
from agent.rescue.console import RescueConsole
from agent.state import AgentState
from tests.places.agent import CODE, Core, RunningAgent
from tests.places.waiting import wait_until

_LINE = re.compile(
    r"^understudy-rescue address=(\S+) port=(\d+) code=(\S+) fingerprint=(\S+)$", re.MULTILINE
)


@pytest.fixture
def pairing(tmp_path: Path) -> Pairing:
    return Pairing(AgentState(tmp_path / "state"), None)


class Terminal:
    """A terminal that a person is reading."""

    def __init__(self) -> None:
        self._screen, self._line = os.openpty()
        os.set_blocking(self._screen, False)
        self.path = Path(os.ttyname(self._line))
        self._text = ""

    def text(self) -> str:
        try:
            while data := os.read(self._screen, 4096):
                self._text += data.decode()
        except BlockingIOError:
            return self._text.replace("\r\n", "\n")
        raise AssertionError

    def shown(self) -> list[tuple[str, ...]]:
        return [match.groups() for match in _LINE.finditer(self.text())]

    def close(self) -> None:
        os.close(self._screen)
        os.close(self._line)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def test_it_is_shown_again_when_address_or_code_have_changed(
    pairing: Pairing, terminal: Terminal, tmp_path: Path
) -> None:
    addresses: list[str] = []
    consoles = [tmp_path / "absent", terminal.path]
    console = RescueConsole(consoles, pairing, "ab12", lambda: addresses)
    first = pairing.get_code()

    console.refresh(8006)
    addresses.append("10.0.2.15")
    console.refresh(8006)
    console.refresh(8006)
    pairing.use_up()
    console.refresh(8006)

    second = pairing.get_code()
    assert second != first
    assert terminal.shown() == [
        ("-", "8006", first, "ab12"),
        ("10.0.2.15", "8006", first, "ab12"),
        ("10.0.2.15", "8006", second, "ab12"),
    ]
    assert "waiting for the network" in terminal.text()
    assert "\r" not in terminal.text()


def test_a_code_that_was_wrong_too_often_is_replaced_on_the_screen(
    rescue: RunningAgent, source: Core, terminal: Terminal
) -> None:
    rescue.command = ("restore", "--console", str(terminal.path))
    rescue.restart()
    wait_until(terminal.shown)
    for _ in range(MAX_WRONG_TRIES):
        with pytest.raises(WrongPairingCode):
            source.pair(rescue, "WRONG-CODE-0000")

    wait_until(lambda: len(terminal.shown()) == 2)

    codes = [code for _, _, code, _ in terminal.shown()]
    assert codes[0] == CODE
    assert codes[1] != CODE
    with pytest.raises((WrongPairingCode, PairingClosed)):
        source.pair(rescue, CODE)
    assert source.pair(rescue, codes[1]).description.is_rescue
