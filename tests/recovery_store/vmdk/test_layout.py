"""The structures are in the file as in the technical note's tables."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from recovery_store.vmdk import layout
from recovery_store.vmdk.layout import Header


def test_header_fields_lie_where_the_note_puts_them() -> None:
    sector = Header(capacity_sectors=0x1122334455, directory_sector=0x99).to_bytes()
    assert len(sector) == 512
    assert sector[0:4] == b"KDMV"
    assert sector[4:8] == (3).to_bytes(4, "little")
    assert sector[8:12] == (0x30001).to_bytes(4, "little")
    assert sector[12:20] == (0x1122334455).to_bytes(8, "little")
    assert sector[20:28] == (128).to_bytes(8, "little")
    assert sector[28:36] == (1).to_bytes(8, "little")
    assert sector[36:44] == (20).to_bytes(8, "little")
    assert sector[44:48] == (512).to_bytes(4, "little")
    assert sector[48:56] == bytes(8)
    assert sector[56:64] == (0x99).to_bytes(8, "little")
    assert sector[64:72] == (128).to_bytes(8, "little")
    assert sector[72:77] == b"\0\n \r\n"
    assert sector[77:79] == (1).to_bytes(2, "little")
    assert sector[79:] == bytes(433)


def test_delta_flags_add_the_zero_grain_bit() -> None:
    assert layout.FLAGS_DELTA == 0x30005


@given(st.binary(min_size=512, max_size=512))
def test_any_header_sector_survives_unpacking_and_packing(sector: bytes) -> None:
    assert Header.from_bytes(sector).to_bytes() == sector


@given(st.lists(st.integers(0, 0xFFFFFFFF), max_size=600))
def test_tables_survive_the_way_to_bytes_and_back(entries: list[int]) -> None:
    data = layout.table_to_bytes(array("I", entries))
    assert data == b"".join(entry.to_bytes(4, "little") for entry in entries)
    assert list(layout.table_from_bytes(data)) == entries


def test_a_started_grain_and_a_started_table_count() -> None:
    assert layout.grain_count(512) == 1
    assert layout.grain_count(65536) == 1
    assert layout.grain_count(65537) == 2
    assert layout.table_count(32 << 20) == 1
    assert layout.table_count((32 << 20) + 512) == 2
