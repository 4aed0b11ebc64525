"""A manifest is what its digest says, to the byte, or it is refused."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery_store.errors import DiskMissing, ManifestDamaged
from recovery_store.manifest import DiskEntry, Manifest, range_bytes_for
from tests.recovery_store.disks import MACHINE_ID

POINT_ID = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
PARENT_ID = "aaaaaaaa-bbbb-4ccc-8ddd-ffffffffffff"


def make_disk(**changes: Any) -> DiskEntry:
    entry = DiskEntry(
        number=0,
        key="serial-0",
        capacity_bytes=1 << 20,
        file="disk0.vmdk",
        file_bytes=70_000,
        digest="ab" * 32,
        range_bytes=4 << 20,
        range_digests=("cd" * 32,),
        cid="12345678",
        parent=(PARENT_ID, 0),
    )
    return replace(entry, **changes)


def make_manifest(**changes: Any) -> Manifest:
    manifest = Manifest(
        point_id=POINT_ID,
        machine_id=MACHINE_ID,
        machine_name="web-01",
        taken_at=datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC),
        kind="incremental",
        parent_point_id=PARENT_ID,
        parent_digest="ef" * 32,
        description={"hostname": "web-01", "memory_bytes": 1 << 30, "load": 0.5, "ü": None},
        consistency="file_system",
        owner_core_id="core-1",
        owner_core_name="Headquarters",
        ownership_epoch=3,
        disks=(make_disk(),),
    )
    return replace(manifest, **changes).sealed()


def test_a_manifest_survives_the_way_to_bytes_and_back() -> None:
    manifest = make_manifest()
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def test_format_comes_first() -> None:
    assert list(json.loads(make_manifest().to_bytes()))[:2] == ["format", "digest"]


def test_only_a_manifest_with_content_digests_has_the_new_format() -> None:
    old, new = make_manifest(), make_manifest(disks=(make_disk(content_digest="01" * 32),))
    for manifest, number in ((old, 1), (new, 2)):
        whole = json.loads(manifest.to_bytes())
        assert whole["format"] == number
        assert ("content_digest" in whole["disks"][0]) == (number == 2)
        assert Manifest.from_bytes(manifest.to_bytes()) == manifest


def test_every_flipped_byte_is_refused() -> None:
    data = make_manifest().to_bytes()
    for offset in range(len(data)):
        for bit in (0x01, 0x20):
            damaged = data[:offset] + bytes([data[offset] ^ bit]) + data[offset + 1 :]
            with pytest.raises(ManifestDamaged):
                Manifest.from_bytes(damaged)


@given(st.integers(0, 2000))
def test_a_cut_manifest_is_refused(length: int) -> None:
    data = make_manifest().to_bytes()
    with pytest.raises(ManifestDamaged):
        Manifest.from_bytes(data[: min(length, len(data) - 1)])


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestDamaged):
        Manifest.from_bytes(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"point_id": "../../etc"},
        {"point_id": POINT_ID.upper()},
        {"machine_id": "x"},
        {"machine_name": "x" * 1001},
        {"kind": "snapshot"},
        {"kind": "base_image"},
        {"parent_point_id": None},
        {"parent_digest": None},
        {"parent_digest": "xyz"},
        {"ownership_epoch": -1},
        {"ownership_epoch": True},
        {"description": []},
        {"disks": (make_disk(file="../../etc/passwd"),)},
        {"disks": (make_disk(file="disk1.vmdk"),)},
        {"disks": (make_disk(capacity_bytes=513),)},
        {"disks": (make_disk(capacity_bytes=0),)},
        {"disks": (make_disk(capacity_bytes=1 << 60),)},
        {"disks": (make_disk(file_bytes=1 << 50),)},
        {"disks": (make_disk(digest="AB" * 32),)},
        {"disks": (make_disk(content_digest="AB" * 32),)},
        {"disks": (make_disk(range_digests=()),)},
        {"disks": (make_disk(range_bytes=1),)},
        {"disks": (make_disk(cid="1234567"),)},
        {"disks": (make_disk(parent=(POINT_ID, 0)),)},
        {"disks": (make_disk(), make_disk())},
        {"disks": (make_disk(), make_disk(number=1, file="disk1.vmdk"))},
        {"disks": (make_disk(), make_disk(key="serial-1"))},
        {
            "disks": tuple(
                make_disk(number=n, key=f"serial-{n}", file=f"disk{n}.vmdk") for n in range(257)
            )
        },
        {"disks": (make_disk(range_bytes=2 << 20),)},
    ],
    ids=str,
)
def test_a_field_that_cannot_be_is_refused_whatever_the_digest_says(
    changes: dict[str, Any],
) -> None:
    with pytest.raises(ManifestDamaged):
        Manifest.from_bytes(make_manifest(**changes).to_bytes())


def test_a_time_that_is_not_in_utc_is_refused() -> None:
    whole = json.loads(make_manifest().to_bytes())
    for taken_at in ("2026-05-01T12:00:00.123456", "2026-05-01T14:00:00.123456+02:00"):
        data = json.dumps({**whole, "taken_at": taken_at}).encode()
        with pytest.raises(ManifestDamaged, match="not in UTC"):
            Manifest.from_bytes(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"[" * 100_000, "not JSON"), (bytes((64 << 20) + 1), "too long")],
    ids=["deep", "long"],
)
def test_what_would_take_all_memory_or_stack_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ManifestDamaged, match=why):
        Manifest.from_bytes(data)


def test_a_later_format_is_refused_by_its_number() -> None:
    data = make_manifest().to_bytes().replace(b'"format": 1', b'"format": 3')
    with pytest.raises(ManifestDamaged, match="not have format 2 or earlier"):
        Manifest.from_bytes(data)


def test_a_field_twice_is_refused() -> None:
    data = make_manifest().to_bytes().replace(b'"format": 1', b'"format": 1,\n "format": 1')
    with pytest.raises(ManifestDamaged):
        Manifest.from_bytes(data)


def test_a_disk_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(DiskMissing, match="no disk 7; its disks: 0"):
        make_manifest().disk(7)


def test_there_are_never_more_than_4096_ranges_of_a_disk() -> None:
    assert range_bytes_for(8 << 30) == 4 << 20
    for capacity_bytes in (1 << 40, 62 << 40):
        assert capacity_bytes / range_bytes_for(capacity_bytes) <= 4096
