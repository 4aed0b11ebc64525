"""What StreamWriter writes is a VMDK to qemu-img and libvmdk, and within the limits of ESXi."""

import json
import subprocess
from pathlib import Path

import pytest

from recovery_store.errors import VmdkLimit
from recovery_store.vmdk.layout import GRAIN_BYTES, TABLE_SPAN_BYTES
from recovery_store.vmdk.writer import StreamWriter
from tests.recovery_store.disks import (
    MIB,
    Grains,
    compressed,
    judges_say_same,
    make_stream,
    qemu_says_same,
    write_raw,
)

LAST_OF_40_MIB = 40 * MIB // GRAIN_BYTES - 1


def make_writer(capacity_bytes: int = 4 * MIB, **more: str) -> StreamWriter:
    return StreamWriter(lambda data: None, capacity_bytes, "12345678", **more)


@pytest.mark.parametrize(
    ("grains", "capacity_bytes"),
    [
        ({}, 512),
        ({0: 1}, 512),
        ({}, 4 * MIB),
        ({0: 1}, 4 * MIB),
        ({index: index for index in range(64)}, 4 * MIB),
        ({3: 1, 511: 2, 512: 3, LAST_OF_40_MIB: 4}, 40 * MIB),
        ({600: 1}, TABLE_SPAN_BYTES * 3),
        ({0: 1, 1: 2}, GRAIN_BYTES + 512),
        ({511: 1}, TABLE_SPAN_BYTES),
    ],
    ids=str,
)
def test_others_read_a_full_stream(tmp_path: Path, grains: Grains, capacity_bytes: int) -> None:
    vmdk = tmp_path / "disk.vmdk"
    vmdk.write_bytes(make_stream(grains, capacity_bytes))
    assert judges_say_same(vmdk, write_raw(tmp_path / "disk.raw", grains, capacity_bytes))


def test_qemu_reads_a_chain_of_deltas_by_its_relative_names(tmp_path: Path) -> None:
    layers: list[Grains] = [{0: 1, 5: 2, 600: 3}, {5: 4, 9: 5}, {0: None, 9: None, 601: 6}]
    disk: dict[int, int | None] = {}
    for number, grains in enumerate(layers):
        folder = tmp_path / f"point{number}"
        folder.mkdir()
        parent = (f"0000000{number}", f"../point{number - 1}/d.vmdk") if number else (None, None)
        (folder / "d.vmdk").write_bytes(
            make_stream(grains, 40 * MIB, f"0000000{number + 1}", *parent)
        )
        disk.update(grains)
        raw = write_raw(tmp_path / f"{number}.raw", disk, 40 * MIB)
        assert qemu_says_same(folder / "d.vmdk", raw)
    output = subprocess.check_output(
        ["qemu-img", "info", "--backing-chain", "--output=json", tmp_path / "point2/d.vmdk"]
    )
    chain = json.loads(output)
    assert [link["format-specific"]["data"]["cid"] for link in chain] == [3, 2, 1]
    assert {link["format-specific"]["data"]["create-type"] for link in chain} == {"streamOptimized"}


def test_qemu_converts_a_chain_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "base.vmdk").write_bytes(make_stream({1: 1, 2: 2}, 4 * MIB))
    delta = tmp_path / "delta.vmdk"
    delta.write_bytes(make_stream({2: None, 3: 3}, 4 * MIB, "00000002", "12345678", "base.vmdk"))
    converted = tmp_path / "out.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", delta, converted], check=True)
    expected = write_raw(tmp_path / "disk.raw", {1: 1, 3: 3}, 4 * MIB)
    assert converted.read_bytes() == expected.read_bytes()


def test_the_last_three_sectors_are_marker_footer_and_end_of_stream() -> None:
    stream = make_stream({0: 1}, 4 * MIB)
    tail = stream[-1536:]
    assert tail[:16] == (1).to_bytes(8, "little") + bytes(4) + (3).to_bytes(4, "little")
    assert tail[512:568] == stream[:56]  # the header, but for gdOffset
    assert tail[568:576] != stream[56:64] == b"\xff" * 8
    assert tail[576:1024] == stream[64:512]
    assert tail[1024:] == bytes(512)


def test_grains_must_ascend() -> None:
    writer = make_writer()
    writer.grain(5, compressed(1))
    for index in (5, 4, -1):
        with pytest.raises(VmdkLimit, match="is out of order"):
            writer.grain(index, compressed(1))


def test_a_grain_outside_the_disk_is_refused() -> None:
    with pytest.raises(VmdkLimit, match="is out of order"):
        make_writer(GRAIN_BYTES).grain(1, compressed(1))


@pytest.mark.parametrize("length", [0, 66037])
def test_a_grain_that_readers_would_refuse_is_refused(length: int) -> None:
    with pytest.raises(VmdkLimit, match="allowed are 1 to 66036"):
        make_writer().grain(0, bytes(length))


def test_a_zero_grain_needs_a_parent_to_hide() -> None:
    with pytest.raises(VmdkLimit, match="without a parent"):
        make_writer().zero_grain(0)


@pytest.mark.parametrize("capacity_bytes", [0, -512, 513, (64 << 40) + 512])
def test_a_capacity_that_no_vmdk_can_have_is_refused(capacity_bytes: int) -> None:
    with pytest.raises(VmdkLimit, match="expected a multiple of 512"):
        make_writer(capacity_bytes)


def test_a_stream_past_2_tib_is_refused_before_the_grain_is_written() -> None:
    writer = make_writer()
    writer._sector = 0xFFFFFFFF - 1  # nobody has 2 TiB for a test
    with pytest.raises(VmdkLimit, match="2 TiB"):
        writer.grain(0, compressed(1))


def test_a_finished_stream_takes_nothing_more() -> None:
    writer = make_writer()
    writer.finish()
    with pytest.raises(VmdkLimit, match="finished"):
        writer.grain(0, compressed(1))


def test_the_length_is_that_of_what_was_written() -> None:
    parts: list[bytes] = []
    writer = StreamWriter(parts.append, 4 * MIB, "12345678")
    writer.grain(0, compressed(1))
    writer.finish()
    assert writer.length_bytes == sum(len(part) for part in parts)
