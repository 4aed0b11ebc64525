"""The list of what was written since a view, read from bytes made by hand as the kernel does."""

import struct
from mmap import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ViewInvalid
from agent.protocol import GRAIN_BYTES
from agent.providers.exception_store import changed_grains

CHUNK_SECTORS = 64
CHUNK_BYTES = CHUNK_SECTORS * 512
ENTRIES_OF_AREA = CHUNK_BYTES // 16
STORE_CHUNKS = 3 * (ENTRIES_OF_AREA + 1) + 1
CAPACITY_BYTES = 1000 * GRAIN_BYTES + 512
HEADER = (0x70416E53, 1, 1, CHUNK_SECTORS)


def store_of(old_chunks: list[int], header: tuple[int, int, int, int] = HEADER) -> mmap:
    """Lay a list out as the kernel does: data chunks follow the area that names them."""
    store = mmap(-1, STORE_CHUNKS * CHUNK_BYTES)  # which takes memory only where it is written
    struct.pack_into("<4I", store, 0, *header)
    next_free = 2
    for number, old_chunk in enumerate(old_chunks):
        area, slot = divmod(number, ENTRIES_OF_AREA)
        place = (1 + area * (ENTRIES_OF_AREA + 1)) * CHUNK_BYTES + slot * 16
        struct.pack_into("<2Q", store, place, old_chunk, next_free)
        next_free += 1
        if next_free % (ENTRIES_OF_AREA + 1) == 1:
            next_free += 1
    return store


def grains(store: mmap | bytearray, capacity_bytes: int = CAPACITY_BYTES) -> list[tuple[int, int]]:
    def read(offset_bytes: int, count_bytes: int) -> bytes:
        assert offset_bytes + count_bytes <= len(store)
        return bytes(store[offset_bytes : offset_bytes + count_bytes])

    return changed_grains(read, len(store), CHUNK_SECTORS, capacity_bytes)


def test_bytes_as_the_kernel_writes_them() -> None:
    store = bytearray(8 * CHUNK_BYTES)
    store[:16] = bytes.fromhex("536e4170 01000000 01000000 40000000")
    store[CHUNK_BYTES : CHUNK_BYTES + 48] = bytes.fromhex(
        "0700000000000000 0200000000000000"
        "0001000000000000 0300000000000000"
        "0000000000000000 0000000000000000"
    )
    store[2 * CHUNK_BYTES : 4 * CHUNK_BYTES] = b"\xff" * (2 * CHUNK_BYTES)
    assert grains(store) == [(3, 1), (128, 1)]


def test_nothing_written_is_an_empty_list() -> None:
    assert grains(store_of([])) == []


def test_two_pieces_of_a_grain_are_one_grain_and_neighbours_one_run() -> None:
    assert grains(store_of([9, 8, 11, 0])) == [(0, 1), (4, 2)]


@pytest.mark.parametrize("count", [1, ENTRIES_OF_AREA - 1, ENTRIES_OF_AREA, ENTRIES_OF_AREA + 1])
def test_a_list_continues_in_the_next_area(count: int) -> None:
    store = store_of(list(range(count)))
    assert grains(store, 4096 * GRAIN_BYTES) == [(0, (count + 1) // 2)]


def test_the_cut_grain_at_the_end_of_the_disk_is_one() -> None:
    assert grains(store_of([2000, 2001, 5000])) == [(1000, 1)]


@given(st.lists(st.integers(0, 1999), unique=True, max_size=100))
def test_any_list_gives_each_grain_once(old_chunks: list[int]) -> None:
    runs = grains(store_of(old_chunks))
    named = [grain for first, count in runs for grain in range(first, first + count)]
    assert named == sorted({chunk // 2 for chunk in old_chunks})


@pytest.mark.parametrize(
    "header",
    [
        (0, 0, 0, 0),
        (0x70416E54, 1, 1, 64),
        (0x70416E53, 0, 1, 64),  # as the kernel marks one that ran over
        (0x70416E53, 1, 2, 64),
        (0x70416E53, 1, 1, 32),
    ],
)
def test_another_header_is_no_list(header: tuple[int, int, int, int]) -> None:
    with pytest.raises(ViewInvalid, match="begins with"):
        grains(store_of([1], header))


def test_a_list_that_names_what_is_not_there_is_refused() -> None:
    store = store_of([1])
    struct.pack_into("<2Q", store, CHUNK_BYTES, 1, STORE_CHUNKS)
    with pytest.raises(ViewInvalid, match="which has"):
        grains(store)


def test_a_list_without_an_end_is_refused() -> None:
    store = store_of(list(range(3 * ENTRIES_OF_AREA)))
    with pytest.raises(ViewInvalid, match="has no end"):
        grains(store)
