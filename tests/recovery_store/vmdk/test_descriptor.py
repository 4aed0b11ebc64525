"""Descriptors are printed as accepted readers want them and parsed with suspicion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery_store.errors import VmdkDamaged, VmdkLimit
from recovery_store.vmdk.descriptor import NO_PARENT, Descriptor
from tests.recovery_store.disks import without_sections

CIDS = st.integers(0, 0xFFFFFFFD).map(lambda number: f"{number:08x}")
NAMES = st.text("abcXYZ019._/+-", min_size=1, max_size=120)


def make_descriptor(**changes: object) -> Descriptor:
    return Descriptor(2048, "12345678")._replace(**changes)  # type: ignore[arg-type]


@given(st.integers(1, 1 << 37), CIDS, st.none() | st.tuples(CIDS, st.none() | NAMES), NAMES)
def test_a_descriptor_survives_print_and_parse(
    capacity_sectors: int, cid: str, parent: tuple[str, str | None] | None, name: str
) -> None:
    parent_cid, hint = parent or (NO_PARENT, None)
    descriptor = Descriptor(capacity_sectors, cid, parent_cid, hint, name)
    assert Descriptor.from_bytes(descriptor.to_bytes()) == descriptor


def test_type_and_extent_stand_in_the_first_sector() -> None:
    hint = "../20260501T120000.000000Z-11111111-2222-4333-8444-555555555555/disk255.vmdk"
    data = make_descriptor(parent_cid="87654321", parent_file_hint=hint).to_bytes()
    assert b'createType="streamOptimized"' in data[:512]
    assert b'RW 2048 SPARSE "disk.vmdk"' in data[:512]
    assert len(data) == 20 * 512


def test_a_descriptor_has_the_layout_of_vmware_s_own() -> None:
    text = make_descriptor().to_bytes().rstrip(b"\0").decode()
    header, extent, database, keys = text.split("\n\n")
    assert header.split("\n")[:3] == ["# Disk DescriptorFile", "version=1", 'encoding="UTF-8"']
    assert extent == '# Extent description\nRW 2048 SPARSE "disk.vmdk"'
    assert database == "# The Disk Data Base\n#DDB"
    assert all(line.startswith("ddb.") for line in keys.strip().split("\n"))


def test_a_descriptor_without_sections_as_in_older_points_is_read() -> None:
    assert Descriptor.from_bytes(without_sections(make_descriptor().to_bytes())) == (
        make_descriptor()
    )


@pytest.mark.parametrize("cid", ["ffffffff", "fffffffe", "1234567", "12345678 ", "ABCDEF01", ""])
def test_a_cid_that_means_none_or_nothing_is_refused(cid: str) -> None:
    with pytest.raises(VmdkLimit):
        make_descriptor(cid=cid).to_bytes()


@pytest.mark.parametrize("hint", ['a"b', "a\nCID=1", "", "ä.vmdk", "x" * 301])
def test_a_parent_name_that_could_break_the_text_is_refused(hint: str) -> None:
    with pytest.raises(VmdkLimit):
        make_descriptor(parent_cid="87654321", parent_file_hint=hint).to_bytes()


def test_a_parent_name_without_a_parent_is_refused() -> None:
    with pytest.raises(VmdkLimit):
        make_descriptor(parent_file_hint="a.vmdk").to_bytes()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"# Disk DescriptorFile", b"# Disk Descriptorfile"),
        (b"streamOptimized", b"monolithicFlat"),
        (b"CID=12345678\n", b""),
        (b"CID=12345678", b"CID=ffffffff"),
        (b"CID=12345678", b"CID=12345678\nCID=12345679"),
        (b"parentCID=ffffffff", b"parentCID=xyz"),
        (b"RW 2048 SPARSE", b"RW 2048 FLAT"),
        (b"RW 2048 SPARSE", b"RW 9999999999999999 SPARSE"),
        (b'RW 2048 SPARSE "disk.vmdk"', b'RW 1 SPARSE "a"\nRW 2 SPARSE "b"'),
        (b"version=1", b"version 1"),
        (b"version=1", b"version=\xff1"),
        (b"version=1", b"version=\0001"),
    ],
)
def test_a_malformed_descriptor_is_refused(old: bytes, new: bytes) -> None:
    data = make_descriptor().to_bytes()
    assert old in data
    with pytest.raises(VmdkDamaged):
        Descriptor.from_bytes(data.replace(old, new, 1))


@given(st.binary(max_size=2000))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with pytest.raises(VmdkDamaged):
        Descriptor.from_bytes(data)
