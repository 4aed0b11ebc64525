"""A stream with any error is refused; one without is accepted in pieces of any size."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery_store.errors import StreamRefused
from recovery_store.vmdk.layout import COMPRESSED_GRAIN_LIMIT_BYTES, GRAIN_MARKER, METADATA_MARKER
from recovery_store.vmdk.validator import StreamValidator
from tests.recovery_store.disks import MIB, Grains, make_stream

CAPACITY_BYTES = 70 * MIB  # three tables, the last one short
FULL: Grains = {0: 1, 1: 2, 511: 3, 600: 4, 1119: 5}
DELTA: Grains = {0: None, 1: 2, 511: None, 700: None, 1119: 5}
PARENT = ("87654321", "../base/disk0.vmdk")


def full_stream() -> bytes:
    return make_stream(FULL, CAPACITY_BYTES)


def delta_stream() -> bytes:
    return make_stream(DELTA, CAPACITY_BYTES, "12345678", *PARENT)


def judge(stream: bytes, chunk_bytes: int = 1 << 20, is_delta: bool = False) -> None:
    parent = PARENT if is_delta else (None, None)
    validator = StreamValidator(CAPACITY_BYTES, "12345678", *parent)
    for start in range(0, len(stream), chunk_bytes):
        validator.feed(stream[start : start + chunk_bytes])
    validator.finish()


def structures(stream: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield (what, first byte, byte behind it) of everything in a stream."""
    yield "header", 0, 512
    yield "descriptor", 512, 21 * 512
    yield "padding", 21 * 512, 128 * 512
    at = 128 * 512
    while at < len(stream):
        value, size = GRAIN_MARKER.unpack_from(stream, at)
        if size:
            end = at + -(-(12 + size) // 512) * 512
            yield "grain", at, end
            at = end
            continue
        kind = METADATA_MARKER.unpack_from(stream, at)[2]
        yield f"marker {kind}", at, at + 512
        at += 512
        if value:
            yield f"metadata {kind}", at, at + value * 512
        at += value * 512


def place(stream: bytes, what: str, number: int = 0) -> int:
    return [start for name, start, _ in structures(stream) if name == what][number]


def patched(stream: bytes, offset_bytes: int, new: bytes) -> bytes:
    return stream[:offset_bytes] + new + stream[offset_bytes + len(new) :]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 512, 513, 65536, 1 << 20])
def test_a_true_stream_is_accepted_in_any_pieces(chunk_bytes: int) -> None:
    judge(full_stream(), chunk_bytes)
    judge(delta_stream(), chunk_bytes, is_delta=True)


@given(
    st.dictionaries(st.integers(0, 1119), st.none() | st.integers(0, 99), max_size=30),
    st.integers(1, 100_000),
)
def test_any_delta_is_accepted_in_any_pieces(grains: Grains, chunk_bytes: int) -> None:
    stream = make_stream(grains, CAPACITY_BYTES, "12345678", *PARENT)
    judge(stream, chunk_bytes, is_delta=True)


def test_every_flipped_byte_of_the_header_is_refused() -> None:
    stream = full_stream()
    for offset in range(512):
        with pytest.raises(StreamRefused, match="in the header is"):
            judge(patched(stream, offset, bytes([stream[offset] ^ 1])))


@pytest.mark.parametrize(
    "what",
    ["marker 1", "metadata 1", "marker 2", "metadata 2", "marker 3", "metadata 3", "marker 0"],
)
@pytest.mark.parametrize("bit", [1, 0x80])
def test_every_flipped_byte_of_the_metadata_is_refused(what: str, bit: int) -> None:
    stream = full_stream()
    start, end = next((start, end) for name, start, end in structures(stream) if name == what)
    for offset in range(start, end):
        with pytest.raises(StreamRefused):
            judge(patched(stream, offset, bytes([stream[offset] ^ bit])))


def test_every_flipped_byte_of_a_grain_marker_is_refused() -> None:
    stream = full_stream()
    start = place(stream, "grain", 1)
    for offset in range(start, start + 14):
        for bit in (1, 0x80):
            if offset - start in (8, 9):
                continue  # some bytes more or less in the same sector: the digests' business
            with pytest.raises(StreamRefused):
                judge(patched(stream, offset, bytes([stream[offset] ^ bit])))


@pytest.mark.parametrize("size_bytes", [COMPRESSED_GRAIN_LIMIT_BYTES + 1, (1 << 32) - 1])
def test_a_grain_larger_than_a_reader_takes_is_refused_before_its_bytes(size_bytes: int) -> None:
    stream = bytearray(full_stream())
    at = place(bytes(stream), "grain")
    GRAIN_MARKER.pack_into(stream, at, 0, size_bytes)
    with pytest.raises(StreamRefused, match=f"a grain of {size_bytes} bytes"):
        judge(bytes(stream[: at + 512]))


def test_a_stream_cut_at_or_beside_any_border_is_refused() -> None:
    stream = full_stream()
    for _, start, end in structures(stream):
        for length in (start, start + 1, end - 1):
            with pytest.raises(StreamRefused, match="truncated"):
                judge(stream[:length])


def test_anything_behind_the_end_is_refused() -> None:
    with pytest.raises(StreamRefused, match="after the end of the stream"):
        judge(full_stream() + b"\0")


def test_something_between_descriptor_and_grains_is_refused() -> None:
    with pytest.raises(StreamRefused, match="between the descriptor and the first grain"):
        judge(patched(full_stream(), 30 * 512, b"x"))


def test_another_cid_parent_or_capacity_is_named() -> None:
    for stream, what in (
        (make_stream(FULL, CAPACITY_BYTES, "12345679"), "CID in the descriptor is '12345679'"),
        (make_stream(FULL, 71 * MIB), "capacity_sectors in the header"),
        (make_stream(DELTA, CAPACITY_BYTES, "12345678", *PARENT), "flags in the header"),
    ):
        with pytest.raises(StreamRefused, match=what):
            judge(stream)
    for parent, what in (
        (("87654322", PARENT[1]), "parentCID in the descriptor"),
        ((PARENT[0], "../other/disk0.vmdk"), "parentFileNameHint in the descriptor"),
    ):
        stream = make_stream(DELTA, CAPACITY_BYTES, "12345678", *parent)
        with pytest.raises(StreamRefused, match=what):
            judge(stream, is_delta=True)


def test_a_table_that_moves_a_grain_is_refused() -> None:
    stream = full_stream()
    table = place(stream, "metadata 1")
    first = int.from_bytes(stream[table : table + 4], "little")
    second = int.from_bytes(stream[table + 4 : table + 8], "little")
    swapped = second.to_bytes(4, "little") + first.to_bytes(4, "little")
    with pytest.raises(StreamRefused, match="entry 0 of a grain table"):
        judge(patched(stream, table, swapped))


def test_a_zero_grain_in_a_full_stream_is_refused() -> None:
    stream = full_stream()
    table = place(stream, "metadata 1")
    with pytest.raises(StreamRefused, match="entry 9 of a grain table"):
        judge(patched(stream, table + 36, (1).to_bytes(4, "little")))


def test_a_directory_that_leaves_a_table_out_is_refused() -> None:
    stream = full_stream()
    directory = place(stream, "metadata 2")
    with pytest.raises(StreamRefused, match="grain directory names 2 tables of 3"):
        judge(patched(stream, directory + 8, bytes(4)))


def test_a_directory_that_puts_a_table_elsewhere_is_refused() -> None:
    stream = full_stream()
    directory = place(stream, "metadata 2")
    moved = bytes(4) + stream[directory : directory + 8]
    with pytest.raises(StreamRefused, match="grain directory"):
        judge(patched(stream, directory, moved))


def test_grains_of_two_tables_without_the_first_table_are_refused() -> None:
    stream = full_stream()
    start = place(stream, "marker 1")
    with pytest.raises(StreamRefused, match="comes before table 0"):
        judge(stream[:start] + stream[start + 5 * 512 :])


def test_a_directory_before_the_last_table_is_refused() -> None:
    stream = full_stream()
    start = place(stream, "marker 1", 2)
    with pytest.raises(StreamRefused, match="is missing after its grains"):
        judge(stream[:start] + stream[start + 5 * 512 :])


def test_a_table_twice_is_refused() -> None:
    stream = full_stream()
    start = place(stream, "marker 1")
    table = stream[start : start + 5 * 512]
    with pytest.raises(StreamRefused):
        judge(stream[:start] + table + stream[start:])


def test_an_empty_table_is_refused() -> None:
    stream = full_stream()
    start = place(stream, "marker 2")
    empty = stream[place(stream, "marker 1") :][:512] + bytes(2048)
    with pytest.raises(StreamRefused, match="without any grain"):
        judge(stream[:start] + empty + stream[start:])


@given(st.data())
def test_random_damage_never_breaks_the_validator(data: st.DataObject) -> None:
    stream = bytearray(full_stream())
    for _ in range(data.draw(st.integers(1, 5))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    with suppress(StreamRefused):
        judge(bytes(stream))
