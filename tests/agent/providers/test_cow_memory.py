"""Memory as block devices: the kernel's own (zram), and what there is when it has none."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import SnapshotFailed
from agent.providers.cow_memory import CowDevice, ensure_modules, memory_for_cow, release_cow
from tests.places.agent import MIB

CONTROL = Path("/sys/class/zram-control")


@pytest.fixture
def cow() -> Iterator[CowDevice]:
    if not CONTROL.exists():
        subprocess.run(["modprobe", "zram", "num_devices=0"], check=True, timeout=60)
    device = CowDevice(limit_bytes=MIB, capacity_bytes=64 * MIB)
    yield device
    device.release()


def test_a_device_holds_as_much_as_its_limit_and_no_more(cow: CowDevice) -> None:
    assert cow.size_bytes == 4 * MIB
    descriptor = os.open(cow.path, os.O_RDWR | os.O_SYNC)
    try:
        assert os.lseek(descriptor, 0, os.SEEK_END) == cow.size_bytes
        os.pwrite(descriptor, b"what was there before".ljust(4096, b"\0"), MIB)
        assert os.pread(descriptor, 21, MIB) == b"what was there before"
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.pwrite(descriptor, os.urandom(4 * MIB), 0)
    finally:
        os.close(descriptor)


def test_a_device_is_gone_after_its_release(cow: CowDevice) -> None:
    major, minor = map(int, cow.numbers.split(":"))
    assert cow.path.stat().st_rdev == os.makedev(major, minor)

    cow.release()

    assert not Path(f"/sys/dev/block/{major}:{minor}").exists()
    cow.release()


def test_a_device_in_use_is_not_released(cow: CowDevice) -> None:
    descriptor = os.open(cow.path, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(SnapshotFailed, match="zram"):
            release_cow(int(cow.path.name.removeprefix("zram")))
    finally:
        os.close(descriptor)


def test_a_disk_needs_no_more_than_its_own_size_and_the_list(cow: CowDevice) -> None:
    small = CowDevice(limit_bytes=64 * MIB, capacity_bytes=MIB)
    assert small.size_bytes == 2 * MIB + MIB // 64
    small.release()


def test_a_limit_that_the_kernel_refuses_leaves_no_device() -> None:
    before = sorted(Path("/sys/block").glob("zram*"))
    with pytest.raises(SnapshotFailed, match="Making a memory device"):
        CowDevice(limit_bytes=0, capacity_bytes=-(2 * MIB))
    assert sorted(Path("/sys/block").glob("zram*")) == before


@pytest.mark.parametrize(
    ("wanted_bytes", "free_bytes", "taken_bytes"),
    [
        (None, 256 * MIB, 128 * MIB),
        (None, 64 * 1024 * MIB, 4096 * MIB),
        (20 * MIB, 256 * MIB, 20 * MIB),
        (None, 32 * MIB, 16 * MIB),
    ],
)
def test_half_of_what_is_free_is_taken_or_what_was_asked_for(
    tmp_path: Path, wanted_bytes: int | None, free_bytes: int, taken_bytes: int
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 99 kB\nMemAvailable: {free_bytes // 1024} kB\n")
    assert memory_for_cow(wanted_bytes, meminfo) == taken_bytes


@pytest.mark.parametrize(("wanted_bytes", "free_bytes"), [(None, 31 * MIB), (8 * MIB, 256 * MIB)])
def test_too_little_is_refused(tmp_path: Path, wanted_bytes: int | None, free_bytes: int) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemAvailable: {free_bytes // 1024} kB\n")
    with pytest.raises(SnapshotFailed, match=f"the machine has {free_bytes}"):
        memory_for_cow(wanted_bytes, meminfo)


@pytest.fixture
def modprobe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command, which writes down how it was called."""
    command = tmp_path / "bin/modprobe"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/called\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    return command


def test_modules_are_loaded_where_they_are_missing(modprobe: Path, tmp_path: Path) -> None:
    ensure_modules(tmp_path / "sys")
    assert (tmp_path / "called").read_text() == "dm_snapshot\nzram num_devices=0\n"


def test_modules_that_are_there_are_not_loaded(modprobe: Path, tmp_path: Path) -> None:
    for name in ("sys/class/zram-control", "sys/module/dm_snapshot"):
        (tmp_path / name).mkdir(parents=True)
    ensure_modules(tmp_path / "sys")
    assert not (tmp_path / "called").exists()


def test_a_module_that_cannot_be_loaded_is_named(modprobe: Path, tmp_path: Path) -> None:
    modprobe.write_text('#!/bin/sh\necho "FATAL: Module $1 not found" >&2\nexit 1\n')
    with pytest.raises(SnapshotFailed, match="FATAL: Module dm_snapshot not found"):
        ensure_modules(tmp_path / "sys")
    modprobe.write_text("")  # not a program
    with pytest.raises(SnapshotFailed, match="Exec format error"):
        ensure_modules(tmp_path / "sys")
