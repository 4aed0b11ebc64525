"""A lost site is given back with blank machines, and with its old core or a new one."""

import json
import os
import stat
from pathlib import Path

import pytest

from lab.guest.machines import MACHINES
from lab.places import Ports
from lab.repair import CORE_KEPT, CORE_NEW, lost_folder, repair
from lab.sites import Sites
from lab.state import SOURCE_CORE_ONLY, SOURCE_DEAD, SOURCE_REPAIRED, changed_state, load_state
from lab.status import status

PORT_SHIFT = 33_000


@pytest.fixture
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sites:
    """A lab whose source site was lost: a core with a store, and machines with data."""
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "lab"))
    monkeypatch.setenv("UNDERSTUDY_PORT_SHIFT", str(PORT_SHIFT))
    sites = Sites(tmp_path / "lab", Ports.shifted(PORT_SHIFT))
    sites.ensure_secrets()
    (sites.source.home / "store").mkdir()
    (sites.source.home / "store/points").write_text("what was protected")
    for machine in sites.machines:
        machine.folder.mkdir(parents=True)
        (machine.folder / "disk0.raw").write_bytes(b"a system")
    with changed_state(sites.home) as state:
        state.source = SOURCE_DEAD
    return sites


def test_a_core_gets_the_medium_once_and_again_when_it_was_rebuilt(
    sites: Sites, tmp_path: Path
) -> None:
    medium, offered = tmp_path / "medium.iso", sites.source.home / "understudy-rescue.iso"
    medium.write_bytes(b"first")
    sites.source.take_medium(medium)
    taken = offered.stat().st_ino
    sites.source.take_medium(medium)
    assert offered.read_bytes() == b"first"
    assert offered.stat().st_ino == taken

    medium.write_bytes(b"second")
    os.utime(medium, (1, 1))
    sites.source.take_medium(medium)
    assert offered.read_bytes() == b"second"


def test_a_site_that_is_not_lost_is_left_alone(
    sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    with changed_state(sites.home) as state:
        state.source = SOURCE_REPAIRED
    assert repair(CORE_KEPT) == 1
    assert "not lost" in capsys.readouterr().out
    assert (sites.machines[0].folder / "disk0.raw").read_bytes() == b"a system"


@pytest.mark.parametrize("source", [SOURCE_DEAD, SOURCE_CORE_ONLY])
def test_a_kept_core_keeps_its_store_and_password(
    sites: Sites, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with changed_state(sites.home) as state:
        state.source = source
    password = sites.source.password_file.read_text()

    assert repair(CORE_KEPT) == 0

    assert "with the next `make run`" in capsys.readouterr().out
    assert (sites.source.home / "store/points").read_text() == "what was protected"
    assert sites.source.password_file.read_text() == password
    state = load_state(sites.home)
    assert (state.source, state.repaired_core) == (SOURCE_REPAIRED, CORE_KEPT)
    assert state.repaired_at is not None


def test_the_machines_are_blank_sparse_and_in_rescue(
    sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    repair(CORE_KEPT)

    for known, machine in zip(MACHINES, sites.machines, strict=True):
        disks = sorted(machine.folder.glob("disk*.raw"))
        assert [disk.stat().st_size for disk in disks] == list(known.disk_bytes)
        assert sum(disk.stat().st_blocks for disk in disks) == 0
        assert machine.is_in_rescue
        lost = lost_folder(sites.home) / machine.name / "disk0.raw"
        assert lost.read_bytes() == b"a system"
    status()
    assert "db-01 is blank and waits to be restored" in capsys.readouterr().out


@pytest.mark.slow
def test_a_new_core_has_nothing_of_the_old_one(
    sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    old_password = sites.source.password_file.read_text()
    credentials_path = sites.home / "credentials.json"
    target_before = json.loads(credentials_path.read_text())["target"]

    assert repair(CORE_NEW) == 0

    home = sites.source.home
    assert not (home / "store/points").exists()
    # The supervisor starts what it started before; what that needs is there again.
    assert sites.source.redis_folder.is_dir()
    assert (lost_folder(sites.home) / "source/store/points").exists()
    password = sites.source.password_file.read_text()
    assert password != old_password
    credentials = json.loads(credentials_path.read_text())
    assert credentials["source"]["password"] == password.strip()
    assert credentials["target"] == target_before
    assert stat.S_IMODE(credentials_path.stat().st_mode) == 0o600
    assert password.strip() in capsys.readouterr().out
    assert all(machine.is_in_rescue for machine in sites.machines)
    assert load_state(sites.home).repaired_core == CORE_NEW


def test_what_was_lost_before_makes_room(sites: Sites) -> None:
    repair(CORE_KEPT)
    disk = sites.machines[0].folder / "disk0.raw"
    with disk.open("r+b") as file:
        os.pwrite(file.fileno(), b"restored", 0)
    with changed_state(sites.home) as state:
        state.source = SOURCE_DEAD

    assert repair(CORE_KEPT) == 0

    lost = lost_folder(sites.home) / sites.machines[0].name / "disk0.raw"
    assert lost.read_bytes()[:8] == b"restored"
    assert disk.stat().st_blocks == 0
