"""Which disks of a rescue machine may be overwritten, and what is on them."""

from pathlib import Path

import pytest

from agent.errors import RestoreFailed
from agent.rescue.disks import LocalRescueMachine
from tests.agent.made_up_machine import MadeUpMachine
from tests.agent.test_disks import MBR
from tests.places.agent import MIB

_ISO_VOLUME_OFFSET = 32768


@pytest.fixture
def machine(tmp_path: Path) -> MadeUpMachine:
    return MadeUpMachine(tmp_path / "sys")


@pytest.fixture
def rescue(machine: MadeUpMachine, tmp_path: Path) -> LocalRescueMachine:
    return LocalRescueMachine(("sdx",), machine.root, tmp_path)


def add_disk(machine: MadeUpMachine, name: str, number: int, content: bytes = b"") -> None:
    machine.add_disk(name, number, sectors=2 * MIB // 512)
    (machine.root.parent / name).write_bytes(content.ljust(2 * MIB, b"\0"))


def volume(name: bytes) -> bytes:
    """Return the beginning of an ISO 9660 image."""
    return bytes(_ISO_VOLUME_OFFSET) + b"\1CD001\1\0" + bytes(32) + name.ljust(32)


def test_disks_are_known_by_their_hardware_and_say_what_they_hold(
    machine: MadeUpMachine, rescue: LocalRescueMachine
) -> None:
    add_disk(machine, "sda", 0)
    add_disk(machine, "sdb", 1, MBR)
    add_disk(machine, "sdc", 2, bytes(2 * MIB - 1) + b"x")
    (machine.root / "block/sdb/device/wwid").write_text("naa.600 1\n")

    disks = rescue.disks()

    assert [(disk.number, disk.key, disk.content) for disk in disks] == [
        (0, "blank-sda", ""),
        (1, "hardware-naa.600-1", "mbr-12345678"),
        (2, "blank-sdc", "unknown data"),
    ]
    assert {disk.capacity_bytes for disk in disks} == {2 * MIB}
    assert {disk.controller for disk in disks} == {"pvscsi"}
    assert [disk.description()["is_blank"] for disk in disks] == [True, False, False]


def test_a_disk_that_carries_the_rescue_medium_is_not_offered(
    machine: MadeUpMachine, rescue: LocalRescueMachine
) -> None:
    add_disk(machine, "sda", 0, volume(b"UNDERSTUDY_RESCUE"))
    add_disk(machine, "sdb", 1, volume(b"DEBIAN_12"))
    add_disk(machine, "sdx", 2)

    (disk,) = rescue.disks()

    assert (disk.number, disk.path.name) == (0, "sdb")


def test_a_disk_that_cannot_be_read_is_named(
    machine: MadeUpMachine, rescue: LocalRescueMachine
) -> None:
    machine.add_disk("sda", 0)

    with pytest.raises(RestoreFailed, match="sda: No such file"):
        rescue.disks()
