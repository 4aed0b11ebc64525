"""What is frozen, and the watchdog, which is a real process here too."""

import os
import signal
import time
from pathlib import Path

import pytest

from agent.errors import SnapshotFailed
from agent.providers.dm_control import Target, resume_request, suspend_request, table_request
from agent.providers.freeze import Watchdog, find_mounts

MOUNTINFO = """\
22 1 254:2 / / rw,noatime shared:1 - ext4 /dev/mapper/understudy-sda-part2 rw,errors=remount-ro
23 22 0:21 / /proc rw - proc proc rw
24 22 254:4 / /srv/data rw,noatime shared:2 - ext4 /dev/mapper/understudy-sdb-part1 rw
25 22 254:1 / /boot/efi ro - vfat /dev/mapper/understudy-sda-part1 ro,fmask=0022
26 22 254:4 /sub /mnt/with\\040space rw - ext4 /dev/mapper/understudy-sdb-part1 rw
27 22 0:40 / /run/lock rw - tmpfs tmpfs rw
28 24 7:0 / /srv/data/inner rw shared:3 - xfs /dev/loop0 rw
not a mount
"""


def test_writable_file_systems_are_frozen_once_and_the_inner_ones_first() -> None:
    mounts = find_mounts(MOUNTINFO)

    assert [mount.device_numbers for mount in mounts] == ["7:0", "254:4", "254:2"]
    assert mounts[1].path == "/mnt/with space"
    assert mounts[2].path == "/"


def test_a_watchdog_that_is_told_in_time_does_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "rescued"

    Watchdog(30, trace.touch).stand_down()

    assert not trace.exists()


def test_a_watchdog_that_is_not_told_in_time_acts_and_says_so(tmp_path: Path) -> None:
    trace = tmp_path / "rescued"
    watchdog = Watchdog(0.2, trace.touch)
    deadline = time.monotonic() + 20
    while not trace.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)

    with pytest.raises(SnapshotFailed, match=r"more than 0\.2 seconds"):
        watchdog.stand_down()


def test_a_watchdog_acts_at_once_when_the_agent_is_killed(tmp_path: Path) -> None:
    trace = tmp_path / "rescued"
    child = os.fork()
    if child == 0:
        Watchdog(300, trace.touch)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

    deadline = time.monotonic() + 20
    while not trace.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_requests_to_the_device_mapper_are_as_the_kernel_reads_them() -> None:
    """Offsets are those of struct dm_ioctl and struct dm_target_spec in <linux/dm-ioctl.h>."""
    load = table_request("understudy-sda", Target(0, 2048, "snapshot-origin", "8:0"))
    suspend = suspend_request("understudy-sda")

    assert int.from_bytes(load[12:16], "little") == len(load) == 312 + 40 + 8
    assert int.from_bytes(load[16:20], "little") == 312
    assert int.from_bytes(load[20:24], "little") == 1
    assert load[48:63] == b"understudy-sda\0"
    assert int.from_bytes(load[320:328], "little") == 2048
    assert int.from_bytes(load[332:336], "little") == 48
    assert load[336:352] == b"snapshot-origin\0"
    assert load[352:] == b"8:0\0\0\0\0\0"
    assert int.from_bytes(suspend[28:32], "little") == (1 << 1) | (1 << 10)
    assert int.from_bytes(resume_request("x")[28:32], "little") == 1 << 10
