"""The simulator takes what ESXi takes, and refuses the rest as ESXi does."""

import struct
import subprocess
from pathlib import Path

import pytest

from recovery_store.vmdk.deflate import deflate
from recovery_store.vmdk.writer import StreamWriter
from tests.vsphere.disks import GRAIN_BYTES, MIB, make_stream
from tests.vsphere.leases import Lease
from tests.vsphere.site import STREAM

# How an upload has to come.


def test_a_chunked_upload_is_refused_for_its_missing_length(lease: Lease) -> None:
    assert lease.post(chunked=True)[0] == 411
    assert lease.state == "ready"


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE", "HEAD"])
def test_only_post_takes_a_disk(lease: Lease, method: str) -> None:
    assert lease.post(method=method)[0] == 405


@pytest.mark.parametrize("media_type", ["application/octet-stream", "", "text/plain"])
def test_only_the_disk_media_type_is_taken(lease: Lease, media_type: str) -> None:
    assert lease.post(media_type=media_type)[0] == 415


@pytest.mark.parametrize("path", ["/nfc/none/disk-0.vmdk", "/nfc/", "/nfc/a/b/c", "/", "/sdk/x"])
def test_unknown_addresses_are_not_found(lease: Lease, path: str) -> None:
    assert lease.post(path=path)[0] == 404


def test_an_unknown_disk_is_not_found(lease: Lease) -> None:
    assert lease.post(path=lease.url().path.replace("disk-0", "disk-9"))[0] == 404


def test_a_disk_is_taken_once(lease: Lease) -> None:
    assert lease.post()[0] == 201
    assert lease.post()[0] == 409


# What a stream has to be.


def changed(offset: int, data: bytes, stream: bytes = STREAM) -> bytes:
    return stream[:offset] + data + stream[offset + len(data) :]


def footer(offset: int, data: bytes) -> bytes:
    """Return the stream with the same change in header and footer."""
    return changed(len(STREAM) - 1024 + offset, data, changed(offset, data))


def with_parent() -> bytes:
    parts: list[bytes] = []
    writer = StreamWriter(parts.append, 64 * MIB, cid="00000001", parent_cid="00000002")
    writer.grain(3, deflate(bytes(GRAIN_BYTES)))
    writer.finish()
    return b"".join(parts)


def descending() -> bytes:
    """Return a stream in which two neighbours have changed places."""
    stream = make_stream(grains=1024)
    five, six = struct.pack("<Q", 128 * 5), struct.pack("<Q", 128 * 6)
    first, second = stream.index(five, 1 << 16), stream.index(six, 1 << 16)
    return changed(first, six, changed(second, five, stream))


BAD_STREAMS = {
    "no vmdk": (b"x" * 4096, "magic"),
    "empty grain area": (STREAM[:4096], "footer"),
    "version 1": (footer(4, struct.pack("<I", 1)), "version 1"),
    "zero-grain flag": (footer(8, struct.pack("<I", 0x30005)), "bit 2"),
    "no markers": (footer(8, struct.pack("<I", 0x10001)), "flags"),
    "grains of 64 sectors": (footer(20, struct.pack("<Q", 64)), "grains of 64"),
    "no deflate": (footer(77, struct.pack("<H", 0)), "compression"),
    "newlines changed": (footer(73, b"\n\r\r\n"), "newline"),
    "directory in front": (changed(56, struct.pack("<Q", 21)), "directory"),
    "another capacity": (footer(12, struct.pack("<Q", 256)), "extent"),
    "a parent": (with_parent(), "bit 2|parent"),
    "footer unlike header": (changed(len(STREAM) - 1024 + 64, b"\0" * 8), "footer"),
    "no end of stream": (STREAM[:-512], "without footer"),
    "bytes after the end": (STREAM + bytes(512), "after the end"),
    "something at the end": (changed(len(STREAM) - 512, b"\1"), "end-of-stream"),
    "descending grains": (descending(), "not ascending|table"),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_a_stream_that_the_technical_note_does_not_allow_fails_the_lease(
    lease: Lease, name: str
) -> None:
    body, said = BAD_STREAMS[name]
    status, text = lease.post(body)
    assert status == 400
    assert any(part in text for part in said.split("|")), text
    assert lease.state == "error"
    assert lease.world.machine_names() == []


def test_no_flipped_bit_in_the_tables_passes(lease: Lease) -> None:
    tail = len(STREAM) - 4 * 512  # the directory's sector, of which one entry is in use
    status, text = lease.post(changed(tail, bytes([STREAM[tail] ^ 1])))
    assert status == 400
    assert "directory" in text


def test_qemu_img_s_own_stream_is_refused(lease: Lease, tmp_path: Path) -> None:
    raw, made = tmp_path / "disk.raw", tmp_path / "disk.vmdk"
    with raw.open("wb") as file:
        file.write(b"data" * 100_000)
        file.truncate(64 * MIB)
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk"]
    options = ["-o", "subformat=streamOptimized", str(raw), str(made)]
    subprocess.run([*command, *options], check=True, timeout=60)
    assert lease.post(made.read_bytes())[0] == 400
    assert lease.state == "error"


def test_an_empty_disk_is_a_good_stream(lease: Lease) -> None:
    assert lease.post(make_stream(grains=0))[0] == 201


@pytest.mark.parametrize("capacity_bytes", [512, GRAIN_BYTES + 512, 32 * MIB, 33 * MIB, 1 << 40])
def test_capacities_of_every_kind_are_good_streams(lease: Lease, capacity_bytes: int) -> None:
    assert lease.post(make_stream(capacity_bytes, grains=3))[0] == 201
