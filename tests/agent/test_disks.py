"""Disks keep their keys on any hardware; a made-up /sys stands for the machine."""

import uuid
from pathlib import Path

import pytest

from agent.disks import describe_disks, find_disks, key_of_content

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


class MadeUpMachine:
    """A /sys with disks on a PCI controller."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "block").mkdir(parents=True)
        self.driver = root / "bus/pci/drivers/vmw_pvscsi"
        self.driver.mkdir(parents=True)

    def add_disk(
        self, name: str, target: int, sectors: int = 8, is_removable: bool = False
    ) -> None:
        controller = self.root / "devices/pci0000:00/0000:00:15.0"
        device = controller / f"host2/target2:0:{target}/2:0:{target}:0"
        device.mkdir(parents=True)
        if not (controller / "driver").exists():
            (controller / "driver").symlink_to(self.driver)
        folder = self.root / "block" / name
        folder.mkdir()
        (folder / "device").symlink_to(device)
        (folder / "size").write_text(f"{sectors}\n")
        (folder / "removable").write_text(f"{int(is_removable)}\n")
        (folder / "dev").write_text("8:0\n")
        (folder / "holders").mkdir()

    def add_layer(self, disk: str, name: str, dm_name: str, sectors: int) -> None:
        folder = self.root / "block" / name
        (folder / "dm").mkdir(parents=True)
        (folder / "dm/name").write_text(f"{dm_name}\n")
        (folder / "size").write_text(f"{sectors}\n")
        (folder / "dev").write_text("254:0\n")
        (self.root / "block" / disk / "holders" / name).mkdir()


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


def test_copies_of_a_disk_get_keys_of_their_own(machine: MadeUpMachine, tmp_path: Path) -> None:
    for number, name in enumerate(("sda", "sdb", "sdc")):
        machine.add_disk(name, target=number)
        (tmp_path / name).write_bytes(MBR)

    disks = describe_disks(find_disks((), machine.root, tmp_path), machine.root)

    assert [disk.key for disk in disks] == ["mbr-12345678", "mbr-12345678#2", "mbr-12345678#3"]
    assert {disk.controller for disk in disks} == {"pvscsi"}
