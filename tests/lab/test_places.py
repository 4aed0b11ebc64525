"""Two labs side by side do not share a port."""

import dataclasses

import pytest

from lab.places import Ports, port_shift


def test_every_port_is_shifted() -> None:
    plain = dataclasses.asdict(Ports.shifted(0))
    assert plain["agent"] == 8006
    assert plain["source_console"] == 8100
    assert plain["target_console"] == 8000
    shifted = dataclasses.asdict(Ports.shifted(20_000))
    assert shifted == {name: port + 20_000 for name, port in plain.items()}
    assert len(set(plain.values())) == len(plain)


def test_the_shift_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNDERSTUDY_PORT_SHIFT", raising=False)
    assert port_shift() == 0
    monkeypatch.setenv("UNDERSTUDY_PORT_SHIFT", "1500")
    assert port_shift() == 1500


@pytest.mark.parametrize("text", ["-1", "many", "60000", "1.5"])
def test_a_shift_that_is_no_use_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("UNDERSTUDY_PORT_SHIFT", text)
    with pytest.raises(SystemExit, match="UNDERSTUDY_PORT_SHIFT"):
        port_shift()
