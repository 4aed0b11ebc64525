"""The settings disk: a small disk that a core adds to a VM which it makes of a recovery point.

It tells the machine what the recovery point cannot hold, above all where the core can be reached.
It needs no file system and no mounting: the first sector has a label and two lengths, then follow
a JSON document and the signature of the core that made it. It has neither a partition table nor
anything else that Linux would recognize. `agent.settings` decides whether to believe it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

SETTINGS_DISK_BYTES = 1 << 20
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_SIGNATURE_BYTES = 256
FORMAT = 1
_SECTOR_BYTES = 512
_LABEL = b"Understudy settings disk\n"
_HEAD = struct.Struct("<32sIII")  # label, format, bytes of the document and of the signature


def has_label(head: bytes) -> bool:
    """Tell whether a disk that begins like that is a settings disk of any format."""
    return head[:32] == _LABEL.ljust(32, b"\0")


def make_settings_disk(document: bytes, signature: bytes) -> bytes:
    """Return the whole disk.

    Raises:
        ValueError: the document or the signature is too long.
    """
    if len(document) > MAX_DOCUMENT_BYTES or len(signature) > MAX_SIGNATURE_BYTES:
        raise ValueError(f"{len(document)} and {len(signature)} bytes do not fit a settings disk")
    head = _HEAD.pack(_LABEL, FORMAT, len(document), len(signature)).ljust(_SECTOR_BYTES, b"\0")
    return (head + document + signature).ljust(SETTINGS_DISK_BYTES, b"\0")


def split_settings_disk(disk: bytes) -> tuple[bytes, bytes]:
    """Return the document and the signature on a disk with the label.

    Raises:
        ValueError: it has another format, or a length is impossible.
    """
    if len(disk) < _SECTOR_BYTES:
        raise ValueError(f"it ends after {len(disk)} bytes")
    _, number, document_bytes, signature_bytes = _HEAD.unpack_from(disk)
    if number != FORMAT:
        raise ValueError(f"its format is {number}, not {FORMAT}")
    end = _SECTOR_BYTES + document_bytes + signature_bytes
    too_long = document_bytes > MAX_DOCUMENT_BYTES or signature_bytes > MAX_SIGNATURE_BYTES
    if too_long or end > len(disk):
        raise ValueError(f"its lengths are {document_bytes} and {signature_bytes} bytes")
    return disk[_SECTOR_BYTES : end - signature_bytes], disk[end - signature_bytes : end]


def is_settings_disk(folder: Path, dev_root: Path) -> bool:
    """Tell whether a disk, by its folder in /sys/block, has the size and label of one.

    Disks of another size are not read.
    """
    try:
        if int((folder / "size").read_text()) * _SECTOR_BYTES != SETTINGS_DISK_BYTES:
            return False
        return has_label(read_start(dev_root / folder.name, _SECTOR_BYTES))
    except (OSError, ValueError):
        return False


def find_settings_disks(
    sys_root: Path = Path("/sys"), dev_root: Path = Path("/dev")
) -> Iterator[Path]:
    """Yield the devices of the settings disks, by their names."""
    for folder in sorted((sys_root / "block").iterdir()):
        if (folder / "device").exists() and is_settings_disk(folder, dev_root):
            yield dev_root / folder.name


def read_start(device: Path, length_bytes: int) -> bytes:
    """Return the first bytes of a device, or fewer if it ends before."""
    with device.open("rb", buffering=0) as file:
        parts, left = [], length_bytes
        while left and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)
