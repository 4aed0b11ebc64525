"""A disk becomes a stream: what changed and no more, in its order, in bounded memory."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery_store.errors import SourceUnreadable
from recovery_store.vmdk.disk import MergedDisk
from recovery_store.vmdk.imaging import (
    DIGEST_BYTES,
    MeasuredWrite,
    data_extents,
    grain_digest,
    join_runs,
    read_whole,
    stream_disk,
)
from recovery_store.vmdk.layout import GRAIN_BYTES, grain_count
from recovery_store.vmdk.reader import FilePool, RawFile, StreamFile
from recovery_store.vmdk.writer import StreamWriter
from tests.recovery_store.disks import MIB, Grains, content, qemu_says_same, raw_bytes, write_raw

CAPACITY_BYTES = 70 * MIB


class Imaged:
    """What one run of the pipeline gave: a file, and the table of digests after it."""

    def __init__(
        self,
        image: Path,
        out: Path,
        before: "Imaged | None" = None,
        only: list[tuple[int, int]] | None = None,
    ) -> None:
        self.out = out
        self.put_grains: list[int] = []
        self.read_grains: set[int] = set()
        self.asked_grains: set[int] = set()
        with RawFile(image) as raw, out.open("wb") as file:
            grains = grain_count(raw.capacity_bytes)
            start = before.digests if before else b""
            table = bytearray(start.ljust(grains * DIGEST_BYTES, b"\0"))

            def put(first: int, digests: bytes) -> None:
                assert not self.put_grains or first > self.put_grains[-1]
                self.put_grains += range(first, first + len(digests) // DIGEST_BYTES)
                table[first * DIGEST_BYTES : first * DIGEST_BYTES + len(digests)] = digests

            def parent(first: int, count: int) -> bytes:
                self.asked_grains |= set(range(first, first + count))
                part = start[first * DIGEST_BYTES : (first + count) * DIGEST_BYTES]
                return part.ljust(count * DIGEST_BYTES, b"\0")

            self.measured = MeasuredWrite(file.write)
            parents = ("11111111", before.out.name) if before else (None, None)
            cid = "22222222" if before else "11111111"
            writer = StreamWriter(self.measured, raw.capacity_bytes, cid, *parents)

            def read(offset_bytes: int, count_bytes: int) -> bytes:
                end = offset_bytes + count_bytes
                self.read_grains |= set(range(offset_bytes // GRAIN_BYTES, grain_count(end)))
                return read_whole(raw.fd, offset_bytes, count_bytes)

            stream_disk(
                raw.fd,
                raw.capacity_bytes,
                writer,
                put,
                parent if before else None,
                read=read,
                only=only,
            )
            writer.finish()
            self.digests = bytes(table)

    def grains(self) -> dict[int, bool]:
        """Return the grains in the stream; true for data, false for "zero now"."""
        with FilePool() as pool:
            file = StreamFile(self.out, pool)
            return {
                number * 512 + slot: sector > 1
                for number, table_sector in zip(file.table_numbers, file.table_sectors, strict=True)
                for slot, sector, _ in file.grain_locations(table_sector)
            }


def digests_of(data: bytes) -> bytes:
    data = data.ljust(grain_count(len(data)) * GRAIN_BYTES, b"\0")
    return b"".join(
        grain_digest(data[start : start + GRAIN_BYTES])
        for start in range(0, len(data), GRAIN_BYTES)
    )


def test_a_base_image_holds_the_disk_and_its_digests(tmp_path: Path) -> None:
    grains: Grains = {0: 1, 17: 2, 600: 3, 1119: 4}
    image = write_raw(tmp_path / "disk.raw", grains, CAPACITY_BYTES)
    base = Imaged(image, tmp_path / "base.vmdk")
    assert qemu_says_same(base.out, image)
    assert base.digests == digests_of(image.read_bytes())
    assert base.grains() == dict.fromkeys(grains, True)
    assert base.measured.length_bytes == base.out.stat().st_size


def test_a_delta_holds_what_changed_and_no_more(tmp_path: Path) -> None:
    before: Grains = {0: 1, 17: 2, 18: 3, 600: 4, 601: 5}
    after: Grains = {0: 1, 17: 9, 600: 4, 1119: 6}
    image = write_raw(tmp_path / "disk.raw", before, CAPACITY_BYTES)
    base = Imaged(image, tmp_path / "base.vmdk")
    write_raw(image, after, CAPACITY_BYTES)
    delta = Imaged(image, tmp_path / "delta.vmdk", base)
    assert delta.grains() == {17: True, 18: False, 601: False, 1119: True}
    assert delta.digests == digests_of(image.read_bytes())
    assert qemu_says_same(delta.out, image)


def test_an_unchanged_disk_gives_an_empty_delta(tmp_path: Path) -> None:
    image = write_raw(tmp_path / "disk.raw", {0: 1, 600: 4}, CAPACITY_BYTES)
    base = Imaged(image, tmp_path / "base.vmdk")
    delta = Imaged(image, tmp_path / "delta.vmdk", base)
    assert delta.grains() == {}
    assert delta.put_grains == []


@given(
    before=st.dictionaries(st.integers(0, 99), st.integers(0, 9), max_size=30),
    after=st.dictionaries(st.integers(0, 120), st.integers(0, 9), max_size=30),
    ends=st.tuples(st.integers(1, 100 * 128), st.integers(0, 20 * 128)),
)
def test_any_two_states_of_a_growing_disk_are_told_apart(
    tmp_path_factory: pytest.TempPathFactory,
    before: Grains,
    after: Grains,
    ends: tuple[int, int],
) -> None:
    folder = tmp_path_factory.mktemp("disk")
    image = folder / "disk.raw"

    def write(grains: Grains, sectors: int) -> bytes:
        inside = {index: name for index, name in grains.items() if index * 128 < sectors}
        write_raw(image, inside, sectors * 512)
        return raw_bytes(inside, sectors * 512)

    write(before, ends[0])
    base = Imaged(image, folder / "base.vmdk")
    data = write(after, ends[0] + ends[1])
    delta = Imaged(image, folder / "delta.vmdk", base)
    assert delta.digests == digests_of(data)
    pool = FilePool()
    with MergedDisk([StreamFile(path, pool) for path in (delta.out, base.out)], pool) as disk:
        assert disk.read(0, len(data)) == data


@given(
    before=st.dictionaries(st.integers(0, 99), st.integers(0, 9), max_size=30),
    changes=st.dictionaries(st.integers(0, 99), st.integers(0, 9) | st.none(), max_size=30),
    others=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 40)), max_size=5),
    sectors=st.integers(1, 100 * 128),
)
def test_reading_only_what_may_differ_gives_what_reading_all_gives(
    tmp_path_factory: pytest.TempPathFactory,
    before: Grains,
    changes: dict[int, int | None],
    others: list[tuple[int, int]],
    sectors: int,
) -> None:
    folder = tmp_path_factory.mktemp("disk")
    image = folder / "disk.raw"

    def write(grains: Grains) -> None:
        inside = {index: name for index, name in grains.items() if index * 128 < sectors}
        write_raw(image, inside, sectors * 512)

    write(before)
    base = Imaged(image, folder / "base.vmdk")
    after = {**before, **changes}
    write({index: name for index, name in after.items() if name is not None})
    only = [(index, 1) for index in changes] + others
    whole = Imaged(image, folder / "whole.vmdk", base)
    part = Imaged(image, folder / "part.vmdk", base, only)
    assert part.digests == whole.digests
    assert part.grains() == whole.grains()
    assert part.read_grains == {
        index
        for first, count in only
        for index in range(first, first + count)
        if index * 128 < sectors
    }


def test_parent_digests_are_asked_for_only_where_something_may_differ(tmp_path: Path) -> None:
    image = write_raw(tmp_path / "disk.raw", {0: 1}, 3 * 512 * MIB)
    base = Imaged(image, tmp_path / "base.vmdk")
    write_raw(image, {0: 1, 17000: 2}, 3 * 512 * MIB)
    delta = Imaged(image, tmp_path / "delta.vmdk", base, [(17000, 2)])
    assert delta.grains() == {17000: True}
    assert delta.asked_grains == set(range(2 * 8192, 3 * 8192))
    assert delta.read_grains == {17000, 17001}


def test_what_may_differ_is_not_known_without_a_parent(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only needs parent_digests"):
        read_with(tmp_path, only=[(0, 1)])


@pytest.mark.parametrize(
    ("runs", "joined"),
    [
        ([], []),
        ([(5, 1), (0, 2)], [(0, 2), (5, 1)]),
        ([(3, 2), (0, 3), (4, 4)], [(0, 8)]),
        ([(0, 9), (2, 1)], [(0, 9)]),
        ([(8, 5), (10, 1), (30, 1)], [(8, 2)]),
        ([(4, 0)], []),
    ],
)
def test_runs_are_joined_in_their_order(
    runs: list[tuple[int, int]], joined: list[tuple[int, int]]
) -> None:
    assert join_runs(runs, 10) == joined


def test_written_zeros_count_as_a_hole(tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(3 * GRAIN_BYTES) + content(1))
    base = Imaged(image, tmp_path / "base.vmdk")
    assert base.grains() == {3: True}


def test_holes_are_not_read(tmp_path: Path) -> None:
    image = write_raw(tmp_path / "disk.raw", {0: 1}, 1 << 40)
    fd = os.open(image, os.O_RDONLY)
    try:
        assert sum(end - start for start, end in data_extents(fd)) < MIB
    finally:
        os.close(fd)
    assert Imaged(image, tmp_path / "base.vmdk").grains() == {0: True}


def read_with(tmp_path: Path, **more: object) -> None:
    image = write_raw(tmp_path / "disk.raw", {index: index for index in range(200)}, 16 * MIB)
    with RawFile(image) as raw:
        writer = StreamWriter(lambda data: None, raw.capacity_bytes, "11111111")
        stream_disk(
            raw.fd,
            raw.capacity_bytes,
            writer,
            lambda first, digests: None,
            **more,  # type: ignore[arg-type]
        )


def test_progress_rises_to_the_end_and_may_end_the_work(tmp_path: Path) -> None:
    told: list[int] = []
    read_with(tmp_path, progress=lambda done, total: told.append(done))
    assert told == sorted(told)
    assert told[-1] == 16 * MIB
    with pytest.raises(ZeroDivisionError):
        read_with(tmp_path, progress=lambda done, total: 1 // 0)
    assert not [thread for thread in threading.enumerate() if "imaging" in thread.name]


def test_a_read_that_fails_ends_the_work(tmp_path: Path) -> None:
    def read(offset_bytes: int, count_bytes: int) -> bytes:
        raise SourceUnreadable(f"byte {offset_bytes}")

    with pytest.raises(SourceUnreadable, match="byte 0"):
        read_with(tmp_path, read=read)


def test_a_disk_that_cannot_be_read_is_named_by_its_byte(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "new.raw", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x" * 512)
    try:
        writer = StreamWriter(lambda data: None, 512, "11111111")
        with pytest.raises(SourceUnreadable, match="at byte 0"):
            stream_disk(fd, 512, writer, lambda first, digests: None)
    finally:
        os.close(fd)


def test_too_few_parent_digests_are_refused(tmp_path: Path) -> None:
    image = write_raw(tmp_path / "disk.raw", {0: 1}, 4 * MIB)
    with RawFile(image) as raw:
        writer = StreamWriter(lambda data: None, 4 * MIB, "11111111", "22222222")
        with pytest.raises(ValueError, match="64 parent digests were requested"):
            stream_disk(
                raw.fd, 4 * MIB, writer, lambda first, digests: None, lambda first, count: b""
            )
