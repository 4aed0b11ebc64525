"""What the environment asks of a lab."""

import pytest

from lab.first_start import snapshot_interval_seconds
from lab.guest.machines import MACHINES, wanted_machines


def test_a_lab_has_all_machines_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNDERSTUDY_LAB_MACHINES", raising=False)
    assert wanted_machines() == MACHINES
    monkeypatch.setenv("UNDERSTUDY_LAB_MACHINES", "db-01")
    assert [machine.name for machine in wanted_machines()] == ["db-01"]


def test_a_machine_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_LAB_MACHINES", "db-01,db-02")
    with pytest.raises(SystemExit, match="no machine 'db-02'"):
        wanted_machines()


def test_machines_are_snapshotted_each_minute_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("UNDERSTUDY_LAB_INTERVAL", raising=False)
    assert snapshot_interval_seconds() == 60
    monkeypatch.setenv("UNDERSTUDY_LAB_INTERVAL", "3600")
    assert snapshot_interval_seconds() == 3600


@pytest.mark.parametrize("text", ["often", "-1", "0", "1.5"])
def test_an_interval_that_is_no_use_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("UNDERSTUDY_LAB_INTERVAL", text)
    with pytest.raises(SystemExit, match="UNDERSTUDY_LAB_INTERVAL"):
        snapshot_interval_seconds()
