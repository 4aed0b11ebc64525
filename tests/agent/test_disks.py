"""Disks keep their keys on any hardware; a made-up /sys stands for the machine."""

import os
import uuid
from pathlib import Path

import pytest

from agent.disks import describe_disks, find_disks, key_of_content
from agent.errors import SnapshotFailed
from tests.agent.made_up_machine import MadeUpMachine

GPT_ID = uuid.UUID("11223344-5566-7788-99aa-bbccddeeff00")


def head(**pieces: bytes) -> bytes:
    """Return the first 4 KiB of a disk; pieces are named at_OFFSET."""
    content = bytearray(4096)
    for place, piece in pieces.items():
        start = int(place.removeprefix("at_"))
        content[start : start + len(piece)] = piece
    return bytes(content)


MBR = head(at_440=bytes.fromhex("78563412"), at_510=b"\x55\xaa")


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (MBR, "mbr-12345678"),
        (
            head(at_510=b"\x55\xaa", at_512=b"EFI PART", at_568=GPT_ID.bytes_le),
            f"gpt-{GPT_ID}",
        ),
        (head(at_1080=b"\x53\xef", at_1128=GPT_ID.bytes), f"ext-{GPT_ID}"),
        (head(at_0=b"XFSB", at_32=GPT_ID.bytes), f"xfs-{GPT_ID}"),
        (head(at_512=b"LABELONE", at_536=b"LVM2 001" + b"a" * 32), "lvm-" + "a" * 32),
        (head(at_510=b"\x55\xaa"), None),
        (bytes(4096), None),
    ],
)
def test_the_key_is_what_is_written_on_the_disk(content: bytes, key: str | None) -> None:
    assert key_of_content(content) == key


@pytest.fixture
def machine(tmp_path: Path) -> MadeUpMachine:
    return MadeUpMachine(tmp_path / "sys")


def test_disks_are_counted_as_people_count(machine: MadeUpMachine) -> None:
    machine.add_disk("sdb", target=10)
    machine.add_disk("sda", target=9)

    assert [disk.name for disk in find_disks(sys_root=machine.root)] == ["sda", "sdb"]


def test_what_is_no_fixed_disk_is_left_out(machine: MadeUpMachine) -> None:
    machine.add_disk("sda", target=0)
    machine.add_disk("sdb", target=1, is_removable=True)
    machine.add_disk("sdc", target=2, sectors=0)
    machine.add_disk("sdd", target=3)
    machine.add_disk("sr0", target=4)
    machine.add_disk("zram0", target=5)

    found = find_disks(left_out=["sdd"], sys_root=machine.root)

    assert [disk.name for disk in found] == ["sda"]


def test_a_layered_disk_is_as_large_as_its_layer(machine: MadeUpMachine) -> None:
    machine.add_disk("sda", target=0, sectors=16)
    machine.add_layer("sda", "dm-1", "understudy-view-sda", 99)
    machine.add_layer("sda", "dm-4", "understudy-sda", 8)

    (disk,) = find_disks(sys_root=machine.root)

    assert disk.layer_name == "dm-4"
    assert disk.capacity_bytes == 8 * 512
    assert (disk.numbers, disk.layer_numbers) == ("8:0", "254:0")


def test_a_disk_under_another_layer_has_none_of_ours(machine: MadeUpMachine) -> None:
    machine.add_disk("sda", target=0)
    machine.add_layer("sda", "dm-0", "vg-root", 8)

    assert find_disks(sys_root=machine.root)[0].layer_name is None


def test_the_disk_that_holds_boot_comes_first(machine: MadeUpMachine) -> None:
    """It is found through partitions and layers."""
    machine.add_disk("sda", target=0)
    machine.add_disk("sdb", target=1)
    partition = machine.root / "block/sdb/sdb1"
    slaves = machine.root / "block/dm-9/slaves"
    for folder in (partition, slaves, machine.root / "dev/block"):
        folder.mkdir(parents=True)
    (partition / "partition").write_text("1\n")
    (slaves / "sdb1").symlink_to(partition)
    device = Path("/boot" if Path("/boot").exists() else "/").stat().st_dev
    link = machine.root / f"dev/block/{os.major(device)}:{os.minor(device)}"
    link.symlink_to(machine.root / "block/dm-9")

    assert [disk.name for disk in find_disks(sys_root=machine.root)] == ["sdb", "sda"]


def test_a_disk_that_cannot_be_read_is_named(machine: MadeUpMachine, tmp_path: Path) -> None:
    machine.add_disk("sda", target=0)

    with pytest.raises(SnapshotFailed, match="sda: No such file"):
        describe_disks(find_disks((), machine.root, tmp_path), machine.root)


def test_copies_of_a_disk_get_keys_of_their_own(machine: MadeUpMachine, tmp_path: Path) -> None:
    for number, name in enumerate(("sda", "sdb", "sdc")):
        machine.add_disk(name, target=number)
        (tmp_path / name).write_bytes(MBR)

    disks = describe_disks(find_disks((), machine.root, tmp_path), machine.root)

    assert [disk.key for disk in disks] == ["mbr-12345678", "mbr-12345678#2", "mbr-12345678#3"]
    assert {disk.controller for disk in disks} == {"pvscsi"}
