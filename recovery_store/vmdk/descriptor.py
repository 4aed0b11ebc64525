"""The text descriptor inside a VMDK: write it, and parse it.

`createType` and the extent line are in the first sector, since some readers read no more than that.
A parent's file name is only a hint for people and for QEMU; this package finds parents by id.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import VmdkDamaged, VmdkLimit
from .layout import DESCRIPTOR_SECTORS, SECTOR_BYTES

NO_PARENT = "ffffffff"
_FORBIDDEN_CIDS = ("ffffffff", "fffffffe")
_CID = re.compile(r"[0-9a-f]{8}")
_SAFE_NAME = re.compile(r"[A-Za-z0-9._/+-]{1,300}")
_LIMIT_BYTES = DESCRIPTOR_SECTORS * SECTOR_BYTES
_HEADS = 255
_SECTORS_PER_TRACK = 63


class Descriptor(NamedTuple):
    """What a streamOptimized VMDK says about itself.

    cid, parent_cid: content ids, 8 hex digits; parent_cid is "ffffffff" without a parent.
    """

    capacity_sectors: int
    cid: str
    parent_cid: str = NO_PARENT
    parent_file_hint: str | None = None
    extent_name: str = "disk.vmdk"

    def to_bytes(self) -> bytes:
        """Return the text, padded with zeros to its length in the file.

        Raises:
            VmdkLimit: the format cannot hold a content id or a name.
        """
        check_cid(self.cid)
        lines = [
            "# Disk DescriptorFile",
            "version=1",
            'encoding="UTF-8"',
            f"CID={self.cid}",
            f"parentCID={self.parent_cid}",
            'createType="streamOptimized"',
        ]
        if self.parent_cid != NO_PARENT:
            check_cid(self.parent_cid)
            if self.parent_file_hint is not None:
                _check_name(self.parent_file_hint)
                lines.append(f'parentFileNameHint="{self.parent_file_hint}"')
        elif self.parent_file_hint is not None:
            raise VmdkLimit("A disk without a parent content id cannot name a parent file")
        _check_name(self.extent_name)
        cylinders = min(65535, max(1, self.capacity_sectors // (_HEADS * _SECTORS_PER_TRACK)))
        lines += [
            "",
            "# Extent description",
            f'RW {self.capacity_sectors} SPARSE "{self.extent_name}"',
            "",
            "# The Disk Data Base",
            "#DDB",
            "",
            'ddb.adapterType = "lsilogic"',
            'ddb.encoding = "UTF-8"',
            f'ddb.geometry.cylinders = "{cylinders}"',
            f'ddb.geometry.heads = "{_HEADS}"',
            f'ddb.geometry.sectors = "{_SECTORS_PER_TRACK}"',
            f'ddb.longContentID = "{self.cid:0>32}"',
            'ddb.toolsInstallType = "4"',
            'ddb.toolsVersion = "2147483647"',
            'ddb.virtualHWVersion = "4"',
            "",
        ]
        data = "\n".join(lines).encode("ascii")
        if len(data) > _LIMIT_BYTES:
            raise VmdkLimit(f"The descriptor takes {len(data)} bytes, only {_LIMIT_BYTES} fit")
        return data.ljust(_LIMIT_BYTES, b"\0")

    @classmethod
    def from_bytes(cls, data: bytes) -> Descriptor:
        """Parse a descriptor of a streamOptimized VMDK.

        Raises:
            VmdkDamaged: it is not such a descriptor, or a key is missing, repeated or malformed.
        """
        try:
            text = data.rstrip(b"\0").decode("utf-8")
        except UnicodeDecodeError as error:
            raise VmdkDamaged("The VMDK's descriptor is not UTF-8 text") from error
        if "\0" in text or not text.startswith("# Disk DescriptorFile\n"):
            raise VmdkDamaged("The VMDK's descriptor does not begin as one does")
        values, extents = _parse_lines(text)
        if values.get("createType") != "streamOptimized":
            raise VmdkDamaged(
                f"The VMDK is {values.get('createType', 'of no type')!r}, not streamOptimized"
            )
        if len(extents) != 1:
            raise VmdkDamaged(f"The VMDK's descriptor names {len(extents)} extents, not one")
        descriptor = cls(
            capacity_sectors=extents[0][0],
            cid=values.get("CID", "").lower(),
            parent_cid=values.get("parentCID", NO_PARENT).lower(),
            parent_file_hint=values.get("parentFileNameHint"),
            extent_name=extents[0][1],
        )
        try:
            check_cid(descriptor.cid)
            if descriptor.parent_cid != NO_PARENT:
                check_cid(descriptor.parent_cid)
        except VmdkLimit as error:
            raise VmdkDamaged(f"The VMDK's descriptor is malformed: {error}") from error
        return descriptor


def _parse_lines(text: str) -> tuple[dict[str, str], list[tuple[int, str]]]:
    values: dict[str, str] = {}
    extents: list[tuple[int, str]] = []
    for raw in text.split("\n"):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        extent = re.fullmatch(r'(?:RW|RDONLY) (\d{1,15}) SPARSE "([^"]{1,300})"', line)
        if extent:
            extents.append((int(extent[1]), extent[2]))
            continue
        key, equals, value = line.partition("=")
        key = key.strip()
        if not equals or key in values:
            raise VmdkDamaged(
                f"The VMDK's descriptor has a malformed or repeated line: {line[:80]!r}"
            )
        values[key] = value.strip().strip('"')
    return values, extents


def check_cid(cid: str) -> None:
    """Reject an invalid content id, and the one that means "none".

    Raises:
        VmdkLimit: the text names the value.
    """
    if not _CID.fullmatch(cid) or cid in _FORBIDDEN_CIDS:
        raise VmdkLimit(f"{cid!r} is not a content id (8 lower-case hex digits, not ffffffff)")


def _check_name(name: str) -> None:
    if not _SAFE_NAME.fullmatch(name):
        raise VmdkLimit(f"{name[:80]!r} cannot be a file name in a descriptor")
