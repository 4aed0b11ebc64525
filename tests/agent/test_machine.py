"""What the agent says about the machine that it runs on."""

import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import SnapshotFailed
from agent.machine import InitramfsDrivers, describe_machine, module_names
from agent.reading import DirectReader, open_source
from recovery_store.errors import SourceUnreadable
from tests.places.agent import MIB, blank_disk


def test_this_computer_is_described_from_proc_and_sys() -> None:
    description = describe_machine()

    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert description["boot_id"] == boot_id
    assert description["firmware"] in ("bios", "efi")
    assert description["memory_bytes"] % (64 * 1024 * 1024) == 0
    assert description["cpus"] >= 1


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """A /sys with two network cards and a loopback, and a /proc."""
    sys_root, proc_root = tmp_path / "sys", tmp_path / "proc"
    for name in ("eth7", "lo"):
        (sys_root / f"class/net/{name}/device").mkdir(parents=True)
        (sys_root / f"class/net/{name}/address").write_text("00:50:56:00:00:07\n")
    (sys_root / "class/net/veth0").mkdir()
    (sys_root / "bus/vmxnet3").mkdir(parents=True)
    (sys_root / "class/net/eth7/device/driver").symlink_to(sys_root / "bus/vmxnet3")
    (proc_root / "sys/kernel/random").mkdir(parents=True)
    (proc_root / "sys/kernel/random/boot_id").write_text("4711\n")
    (proc_root / "meminfo").write_text("MemTotal:        2000000 kB\nMemFree: 1 kB\n")
    (proc_root / "net").mkdir()
    (proc_root / "net/if_inet6").write_text(
        "fe80000000000000025056fffe000007 02 40 20 80     eth7\ncut\n"
    )
    return sys_root, proc_root


def test_cards_have_their_driver_and_addresses_and_software_is_none(
    roots: tuple[Path, Path],
) -> None:
    description = describe_machine(*roots)

    assert description["boot_id"] == "4711"
    assert description["firmware"] == "bios"
    assert description["nics"] == [
        {
            "name": "eth7",
            "mac": "00:50:56:00:00:07",
            "driver": "vmxnet3",
            "addresses": ["fe80::250:56ff:fe00:7"],
        },
        # Asked of this computer's kernel, whose loopback has this address.
        {"name": "lo", "mac": "00:50:56:00:00:07", "driver": "", "addresses": ["127.0.0.1"]},
    ]


@pytest.mark.parametrize(
    ("packages", "sockets"),
    [([0, 0, 1, 1], 2), ([0], 1), ([0, 3], 2), ([-1, -1], 0), ([], 0), (["x"], 0)],
    ids=str,
)
def test_sockets_are_counted_by_their_packages(
    roots: tuple[Path, Path], packages: list[object], sockets: int
) -> None:
    for number, package in enumerate(packages):
        folder = roots[0] / f"devices/system/cpu/cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{package}\n")
    assert describe_machine(*roots)["sockets"] == sockets


def test_a_kernel_without_ipv6_and_a_machine_with_efi(roots: tuple[Path, Path]) -> None:
    sys_root, proc_root = roots
    (proc_root / "net/if_inet6").unlink()
    (sys_root / "firmware/efi").mkdir(parents=True)

    description = describe_machine(sys_root, proc_root)

    assert description["firmware"] == "efi"
    assert [nic["addresses"] for nic in description["nics"]] == [[], ["127.0.0.1"]]


def test_memory_is_what_is_plugged_in(roots: tuple[Path, Path]) -> None:
    """The kernel keeps some for itself; a virtual machine needs all of it."""
    sys_root, proc_root = roots
    assert describe_machine(sys_root, proc_root)["memory_bytes"] == 1984 * MIB  # rounded up

    blocks = sys_root / "devices/system/memory"
    for number, is_online in enumerate((1, 1, 0)):
        (blocks / f"memory{number}").mkdir(parents=True)
        (blocks / f"memory{number}/online").write_text(f"{is_online}\n")
    (blocks / "block_size_bytes").write_text("8000000\n")
    assert describe_machine(sys_root, proc_root)["memory_bytes"] == 256 * MIB

    (blocks / "block_size_bytes").write_text("many")
    (proc_root / "meminfo").write_text("")
    assert describe_machine(sys_root, proc_root)["memory_bytes"] == 0


class Initramfs:
    """An initramfs, and the command that lists it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = folder / f"initrd.img-{platform.release()}"
        self.image.write_bytes(b"one")
        self.command = folder / "lsinitramfs"
        self.calls = folder / "calls"
        self.set_script("echo usr/lib/modules/kernel/vmxnet3.ko")

    def set_script(self, text: str) -> None:
        self.command.write_text(f'#!/bin/sh\necho "$@" >>{self.calls}\n{text}\n')
        self.command.chmod(0o755)

    def drivers(self) -> list[str]:
        """Return what an agent finds that is started now."""
        drivers = InitramfsDrivers(self.folder, self.folder)
        drivers.start()
        return drivers.get()


@pytest.fixture
def initramfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Initramfs:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Initramfs(tmp_path)


def test_an_initramfs_is_listed_once_until_it_changes(initramfs: Initramfs) -> None:
    assert [initramfs.drivers() for _ in range(2)] == [["vmxnet3"], ["vmxnet3"]]
    assert initramfs.calls.read_text() == f"{initramfs.image}\n"

    initramfs.set_script("echo usr/lib/modules/kernel/nvme.ko")
    initramfs.image.write_bytes(b"another")

    assert initramfs.drivers() == ["nvme"]


@pytest.mark.parametrize("cache", ["{", "{}", "[]", '{"image": 1, "drivers": ["x"]}'])
def test_a_damaged_list_is_made_again(initramfs: Initramfs, cache: str) -> None:
    (initramfs.folder / "initramfs-drivers.json").write_text(cache)

    assert initramfs.drivers() == ["vmxnet3"]


def test_an_initramfs_that_cannot_be_listed_has_no_known_drivers(
    initramfs: Initramfs, caplog: pytest.LogCaptureFixture
) -> None:
    initramfs.set_script("echo cannot unpack; exit 3")
    assert initramfs.drivers() == []
    assert "initramfs not listed status=3 output=cannot unpack" in caplog.text

    initramfs.image.unlink()
    assert initramfs.drivers() == []


def test_drivers_are_the_modules_of_a_listing() -> None:
    listing = """\
usr/lib/modules/6.1.0/kernel/drivers/scsi/vmw_pvscsi.ko
usr/lib/modules/6.1.0/kernel/drivers/md/dm-mod.ko.xz
usr/lib/modules/6.1.0/modules.dep
usr/bin/kmod
"""
    assert module_names(listing) == ["dm_mod", "vmw_pvscsi"]


def test_direct_reading_gives_what_is_there_and_zeros_past_the_end(tmp_path: Path) -> None:
    content = bytes(range(256)) * 64  # 16 KiB
    path = tmp_path / "image"
    path.write_bytes(content + b"tail")
    with path.open("rb") as file:
        reader = DirectReader(file.fileno())

        assert reader.read(0, 8192) == content[:8192]
        assert reader.read(512, 1024) == content[512:1536]
        assert reader.read(16 * 1024 - 512, 4096) == (content[-512:] + b"tail").ljust(4096, b"\0")


def test_a_file_is_read_plainly(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.touch()

    with open_source(path) as (_, read):
        assert read is None


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A block device."""
    image = blank_disk(tmp_path / "disk.raw", MIB)
    image.write_bytes(b"begin".ljust(MIB - 4096, b"\0") + b"end".ljust(4096, b"\0"))
    words = ("losetup", "--find", "--show", str(image))
    path = Path(subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip())
    yield path
    subprocess.run(["losetup", "--detach", str(path)], check=True)


def test_a_device_is_read_past_the_cache(device: Path) -> None:
    with open_source(device) as (_, read):
        assert read is not None
        assert read(0, 5) == b"begin"
        assert read(MIB - 4096, 8192) == b"end".ljust(8192, b"\0")


def test_what_cannot_be_opened_or_read_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(SnapshotFailed, match="gone: No such file"),
        open_source(tmp_path / "gone"),
    ):
        pytest.fail("it cannot be opened")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(SourceUnreadable, match="at byte 4096: Is a directory"):
            DirectReader(descriptor).read(5000, 10)
    finally:
        os.close(descriptor)
