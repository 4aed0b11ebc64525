"""`rescue.json` has what blank machines show on their consoles, for as long as it is valid."""

import json
import os
import stat
from pathlib import Path

import pytest

from lab.guest.machines import LabMachine
from lab.processes import OwnProcess, write_record
from lab.rescue_machines import RescueWatch, code_on_console, read_rescue_file, rescue_file
from lab.source_machines import SourceMachine

LINE = "understudy-rescue address={address} port=8006 code={code} fingerprint=00ff\r\r\n"


@pytest.fixture
def machine(tmp_path: Path) -> SourceMachine:
    """A blank machine that is powered on, as far as its folder tells."""
    medium = tmp_path / "medium.iso"
    medium.write_bytes(b"an ISO")
    blank = LabMachine("web-01", "127.0.1.11", units=(), root_disk_bytes=1 << 20)
    machine = SourceMachine(blank, tmp_path / "machines", agent_port=28006)
    machine.make_blank(medium)
    write_record(machine.folder / "qemu.pid.json", OwnProcess.of(os.getpid()))
    return machine


def show(machine: SourceMachine, address: str, code: str) -> None:
    with machine.guest.console_log.open("a") as console:
        console.write(LINE.format(address=address, code=code))


def test_the_code_shown_last_counts() -> None:
    text = "noise\r\n" + LINE.format(address="10.0.2.15", code="AAAA-BBBB")
    assert code_on_console(text) == "AAAA-BBBB"
    assert code_on_console(text + LINE.format(address="10.0.2.15", code="CCCC")) == "CCCC"


@pytest.mark.parametrize(("address", "code"), [("-", "AAAA-BBBB"), ("10.0.2.15", "-")])
def test_without_address_or_code_nobody_can_begin(address: str, code: str) -> None:
    assert code_on_console(LINE.format(address=address, code=code)) is None
    assert code_on_console("") is None


def test_the_file_follows_the_consoles(tmp_path: Path, machine: SourceMachine) -> None:
    said: list[str] = []
    watch = RescueWatch(tmp_path, [machine], said.append)
    watch.poll_once()
    assert not rescue_file(tmp_path).exists()

    show(machine, "10.0.2.15", "AAAA-BBBB")
    watch.poll_once()
    watch.poll_once()
    entry = {"address": "127.0.1.11", "port": 28006, "code": "AAAA-BBBB"}
    assert json.loads(rescue_file(tmp_path).read_text()) == {"web-01": entry}
    assert stat.S_IMODE(rescue_file(tmp_path).stat().st_mode) == 0o600
    assert said == ["web-01 waits to be restored at 127.0.1.11:28006, code AAAA-BBBB"]

    show(machine, "10.0.2.15", "CCCC-DDDD")
    watch.poll_once()
    assert read_rescue_file(tmp_path)["web-01"]["code"] == "CCCC-DDDD"

    # Its power is cut: nobody waits there.
    (machine.folder / "qemu.pid.json").unlink()
    watch.poll_once()
    assert not rescue_file(tmp_path).exists()
    watch.stop()


def test_a_machine_that_runs_its_own_system_is_let_go(
    tmp_path: Path, machine: SourceMachine
) -> None:
    said: list[str] = []
    watch = RescueWatch(tmp_path, [machine], said.append)
    show(machine, "10.0.2.15", "AAAA-BBBB")
    watch.poll_once()
    assert machine.is_in_rescue
    assert "web-01" in read_rescue_file(tmp_path)

    with machine.guest.console_log.open("a") as console:
        console.write("\r\nlab: web-01 is up\r\n")
    watch.poll_once()
    assert not machine.is_in_rescue
    assert read_rescue_file(tmp_path) == {}
    assert said[-1] == "web-01 runs from its own disks"
    watch.stop()
