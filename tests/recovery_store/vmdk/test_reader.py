"""A finished file is read only if it is the stream it says it is."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery_store.errors import SourceUnreadable, VmdkDamaged
from recovery_store.vmdk.disk import MergedDisk
from recovery_store.vmdk.layout import GRAIN_BYTES
from recovery_store.vmdk.reader import FilePool, RawFile, StreamFile
from tests.recovery_store.disks import MIB, content, flip_byte, make_stream

CAPACITY_BYTES = 40 * MIB
STREAM = make_stream({0: 1, 3: 2, 600: 3}, CAPACITY_BYTES)


@pytest.fixture
def vmdk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.vmdk"
    path.write_bytes(STREAM)
    return path


def read_all(path: Path) -> bytes:
    pool = FilePool()
    with MergedDisk([StreamFile(path, pool)], pool) as disk:
        return disk.read(0, disk.capacity_bytes)


def test_a_whole_file_is_read(vmdk: Path) -> None:
    data = read_all(vmdk)
    assert len(data) == CAPACITY_BYTES
    assert data[3 * GRAIN_BYTES : 4 * GRAIN_BYTES] == content(2)
    assert data[600 * GRAIN_BYTES : 601 * GRAIN_BYTES] == content(3)
    assert data.count(0, 4 * GRAIN_BYTES, 600 * GRAIN_BYTES) == 596 * GRAIN_BYTES


@pytest.mark.parametrize("part", ["header", "footer marker", "footer", "end of stream"])
def test_every_flipped_byte_of_header_and_footer_is_refused(vmdk: Path, part: str) -> None:
    start = {
        "header": 0,
        "footer marker": len(STREAM) - 1536,
        "footer": len(STREAM) - 1024,
        "end of stream": len(STREAM) - 512,
    }[part]
    for offset in range(start, start + 512):
        flip_byte(vmdk, offset)
        with pytest.raises(VmdkDamaged), FilePool() as pool:
            StreamFile(vmdk, pool)
        flip_byte(vmdk, offset)
    read_all(vmdk)


@given(length=st.integers(0, len(STREAM) - 1))
def test_a_cut_file_is_refused(vmdk: Path, length: int) -> None:
    vmdk.write_bytes(STREAM[:length])
    with pytest.raises(VmdkDamaged), FilePool() as pool:
        StreamFile(vmdk, pool)


@given(st.data())
def test_random_damage_never_breaks_the_reader(vmdk: Path, data: st.DataObject) -> None:
    damaged = bytearray(STREAM)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(STREAM) - 1))] = data.draw(st.integers(0, 255))
    vmdk.write_bytes(damaged)
    try:
        assert len(read_all(vmdk)) == CAPACITY_BYTES
    except VmdkDamaged as error:
        assert str(vmdk) in str(error)  # noqa: PT017 - either outcome is right


def test_every_flipped_byte_of_a_table_entry_is_refused_on_reading(vmdk: Path) -> None:
    with FilePool() as pool:
        table_sector = StreamFile(vmdk, pool).table_sectors[0]
    for entry in (0, 3, 7):
        for byte in range(4):
            offset = table_sector * 512 + entry * 4 + byte
            flip_byte(vmdk, offset)
            with pytest.raises(VmdkDamaged):
                read_all(vmdk)
            flip_byte(vmdk, offset)


def test_a_flipped_byte_inside_a_grain_is_refused_on_reading(vmdk: Path) -> None:
    flip_byte(vmdk, 128 * 512 + 300)
    with pytest.raises(VmdkDamaged, match="grain 0"):
        read_all(vmdk)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VmdkDamaged, match=r"gone\.vmdk cannot be opened"), FilePool() as pool:
        StreamFile(tmp_path / "gone.vmdk", pool)


def test_the_pool_keeps_few_files_open(tmp_path: Path) -> None:
    paths = []
    for number in range(10):
        path = tmp_path / f"{number}.vmdk"
        path.write_bytes(make_stream({0: number}, CAPACITY_BYTES))
        paths.append(path)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the kernel's own list
    with FilePool(limit=3) as pool:
        files = [StreamFile(path, pool) for path in paths]
        for number, file in enumerate(files):
            _, sector, end_sector = file.grain_locations(file.table_sectors[0])[0]
            assert file.read_grain(0, sector, end_sector) == content(number)
            assert len(os.listdir("/proc/self/fd")) <= before + 3  # noqa: PTH208
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_raw_image_counts_up_to_the_next_sector(tmp_path: Path) -> None:
    path = tmp_path / "odd.raw"
    path.write_bytes(b"x" * 700)
    with RawFile(path) as image:
        assert (image.length_bytes, image.capacity_bytes) == (700, 1024)


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "pipe"])
def test_what_is_no_disk_image_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.raw"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(SourceUnreadable, match=r"image\.raw"):
        RawFile(path)
