"""Writing grains at their places, without a connection."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import RestoreFailed
from agent.rescue.disk_writer import FLUSH_BYTES, HEAD_BYTES, DiskWriter, make_zero, write_head
from recovery_store.vmdk.deflate import deflate
from tests.places.agent import MIB, blank_disk

GRAIN_BYTES = 64 * 1024


class CoreIsGone(Exception):
    """What a report raises when the core is gone."""


def compressed(*grains: bytes) -> list[memoryview]:
    return [memoryview(deflate(grain)) for grain in grains]


def open_writer(path: Path, capacity_bytes: int, next_grain: int = 0) -> DiskWriter:
    return DiskWriter(path, capacity_bytes, next_grain, True, lambda _grain: None)


def write(
    writer: DiskWriter,
    grains: list[tuple[int, bytes]],
    before_end: Callable[[], object] = lambda: None,
) -> None:
    with writer:
        for number, grain in grains:
            writer.write_run(number, compressed(grain))
        before_end()
        writer.finish()


@pytest.mark.parametrize("can_punch", [True, False])
def test_zeros_are_written_only_where_the_disk_does_not_read_as_zero(
    tmp_path: Path, can_punch: bool
) -> None:
    disk = blank_disk(tmp_path / "disk", 8 * MIB)
    with disk.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(b"left over")
    before = bytearray(disk.read_bytes())

    with disk.open("r+b") as file:
        written_bytes = make_zero(file.fileno(), 512, 6 * MIB, can_punch)

    before[3 * MIB : 3 * MIB + 9] = bytes(9)
    assert disk.read_bytes() == before
    assert written_bytes == (0 if can_punch else MIB)


def test_nothing_is_written_past_the_disks_end(tmp_path: Path) -> None:
    disk = blank_disk(tmp_path / "disk", 3 * GRAIN_BYTES)
    grain = os.urandom(GRAIN_BYTES)
    capacity_bytes = 2 * GRAIN_BYTES + 512

    with open_writer(disk, capacity_bytes) as writer:
        writer.write_run(2, compressed(grain))
        writer.finish()

    assert writer.next_grain == 3
    assert disk.read_bytes() == bytes(2 * GRAIN_BYTES) + grain[:512] + bytes(GRAIN_BYTES - 512)


def test_a_disk_that_takes_nothing_fails_and_keeps_its_place() -> None:
    writer = DiskWriter(Path("/dev/full"), 8 * MIB, 5, False, lambda _grain: None)

    with pytest.raises(RestoreFailed, match="/dev/full: No space left"):
        write(writer, [(5, os.urandom(GRAIN_BYTES))])

    assert writer.next_grain == 5


def test_a_grain_that_is_damaged_keeps_what_came_before_it(tmp_path: Path) -> None:
    disk = blank_disk(tmp_path / "disk", 8 * MIB)

    writer = open_writer(disk, 8 * MIB)
    grains = [(number, bytes([number + 1]) * GRAIN_BYTES) for number in range(22)]
    grains[20] = (20, b"too short for a grain")

    with pytest.raises(RestoreFailed, match="inflate"):
        write(writer, grains)

    assert writer.next_grain == 20


def test_what_is_under_way_when_the_core_is_lost_is_kept(tmp_path: Path) -> None:
    disk = blank_disk(tmp_path / "disk", 8 * MIB)

    writer = open_writer(disk, 8 * MIB)
    data = os.urandom(4 * GRAIN_BYTES)

    def give_up() -> None:
        raise CoreIsGone

    with pytest.raises(CoreIsGone):
        write(
            writer,
            [(number, data[number * GRAIN_BYTES :][:GRAIN_BYTES]) for number in range(4)],
            give_up,
        )

    assert writer.next_grain == 4
    assert disk.read_bytes()[4096 : len(data)] == data[4096:]


def test_the_head_is_kept_for_the_end(tmp_path: Path) -> None:
    disk = blank_disk(tmp_path / "disk", MIB)
    grain = os.urandom(GRAIN_BYTES)

    writer = open_writer(disk, MIB)
    write(writer, [(0, grain), (9, grain)])

    assert disk.read_bytes()[:GRAIN_BYTES] == bytes(HEAD_BYTES) + grain[HEAD_BYTES:]
    write_head(disk, writer.head)
    assert disk.read_bytes()[:GRAIN_BYTES] == grain


def test_a_head_that_no_run_holds_stays(tmp_path: Path) -> None:
    disk = blank_disk(tmp_path / "disk", MIB)
    head = os.urandom(HEAD_BYTES)

    with DiskWriter(disk, MIB, 0, False, lambda _grain: None, head) as writer:
        writer.write_run(1, compressed(os.urandom(GRAIN_BYTES)))
        writer.finish()

    assert writer.head == head


def test_a_disk_smaller_than_a_head_has_a_smaller_one(tmp_path: Path) -> None:
    disk = blank_disk(tmp_path / "disk", 1024)
    grain = os.urandom(GRAIN_BYTES)

    writer = open_writer(disk, 1024)
    write(writer, [(0, grain)])
    write_head(disk, writer.head)

    assert disk.read_bytes() == grain[:1024]


def test_a_head_that_cannot_be_written_names_the_disk() -> None:
    with pytest.raises(RestoreFailed, match="head of /dev/full: No space left"):
        write_head(Path("/dev/full"), b"boot sector")


def test_reports_come_while_it_runs_and_only_ascend(tmp_path: Path) -> None:
    disk = blank_disk(tmp_path / "disk", 128 * MIB)
    seen: list[int] = []
    grain = deflate(b"abcd" * (GRAIN_BYTES // 4))

    with DiskWriter(disk, 128 * MIB, 0, True, seen.append) as writer:
        for first in range(0, 2048, 32):
            writer.write_run(first, [memoryview(grain)] * 32)
        writer.finish()

    assert seen == sorted(seen)
    assert seen[-1] == writer.next_grain == 2048
    assert len(seen) >= 128 * MIB // FLUSH_BYTES // 2


def test_a_disk_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(RestoreFailed, match=r"Opening .*absent for writing"):
        open_writer(tmp_path / "absent", MIB)
