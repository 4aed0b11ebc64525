"""The description of a recovery point: `manifest.json`, written last.

A manifest contains a digest of its own content, the digests of its files, and the digest of its
parent's manifest. So one manifest vouches for its whole chain.
"""

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from blake3 import blake3

from .errors import DiskMissing, ManifestDamaged
from .vmdk.layout import CAPACITY_LIMIT_BYTES, FILE_LIMIT_SECTORS, SECTOR_BYTES

MANIFEST_FILE: Final = "manifest.json"
# Format 1 has no content digests: points taken before 0.2.
_FORMATS: Final = (1, 2)
BASE_IMAGE: Final = "base_image"
INCREMENTAL: Final = "incremental"
MANIFEST_LIMIT_BYTES: Final = 64 << 20
DISK_LIMIT: Final = 256
_SMALLEST_RANGE_BYTES = 4 << 20
_RANGE_LIMIT = 4096
_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEX_CID = re.compile(r"[0-9a-f]{8}")
_DISK_FILE = re.compile(r"disk[0-9]{1,3}\.vmdk")


@dataclass(frozen=True)
class DiskEntry:
    """One disk of a point: its file, and the digests to verify it with.

    key: a stable identity, which links the disks of successive points.
    range_digests: one for each `range_bytes` of the file; the last range may be shorter.
    parent: point id and disk number of the disk that this file is a delta of.
    content_digest: of the file's grains, inflated; none for a point of format 1.
    """

    number: int
    key: str
    capacity_bytes: int
    file: str
    file_bytes: int
    digest: str
    range_bytes: int
    range_digests: tuple[str, ...]
    cid: str
    parent: tuple[str, int] | None = None
    content_digest: str | None = None


@dataclass(frozen=True)
class Manifest:
    """One recovery point. `digest` covers all other fields."""

    point_id: str
    machine_id: str
    machine_name: str
    taken_at: datetime
    kind: str
    parent_point_id: str | None
    parent_digest: str | None
    description: dict[str, Any]
    consistency: str
    owner_core_id: str
    owner_core_name: str
    ownership_epoch: int
    disks: tuple[DiskEntry, ...]
    digest: str = ""

    @property
    def stored_bytes(self) -> int:
        return sum(disk.file_bytes for disk in self.disks)

    @property
    def folder_name(self) -> str:
        return f"{self.taken_at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{self.point_id}"

    def disk(self, number: int) -> DiskEntry:
        """Return that disk.

        Raises:
            DiskMissing: the point has no disk with that number.
        """
        for disk in self.disks:
            if disk.number == number:
                return disk
        numbers = ", ".join(str(disk.number) for disk in self.disks) or "none"
        raise DiskMissing(
            f"Recovery point {self.point_id} has no disk {number}; its disks: {numbers}"
        )

    def find_disk_by_key(self, key: str) -> DiskEntry | None:
        return next((disk for disk in self.disks if disk.key == key), None)

    def sealed(self) -> "Manifest":
        """Return the same manifest with its digest."""
        fields = self._fields()
        return Manifest(**{**self.__dict__, "digest": _digest_of(fields)})

    def to_bytes(self) -> bytes:
        """Return the content of the file; equal manifests give equal bytes."""
        whole = {"format": self._format, "digest": self.digest, **self._fields()}
        return json.dumps(whole, indent=1, ensure_ascii=True, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Parse and validate a manifest.

        Raises:
            ManifestDamaged: it is unreadable, has an unknown format or an impossible field, or does
                not match its digest.
        """
        if len(data) > MANIFEST_LIMIT_BYTES:
            raise ManifestDamaged(f"A manifest of {len(data)} bytes is too long")
        try:
            whole = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ManifestDamaged(f"The manifest is not JSON: {error}") from error
        if not isinstance(whole, dict) or whole.get("format") not in _FORMATS:
            raise ManifestDamaged(f"The manifest does not have format {_FORMATS[-1]} or earlier")
        try:
            manifest = _parse(whole)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManifestDamaged(
                f"The manifest has a missing or invalid field: {error}"
            ) from error
        if manifest.to_bytes() != data or manifest.sealed().digest != manifest.digest:
            raise ManifestDamaged("The manifest does not match its digest")
        return manifest

    @property
    def _format(self) -> int:
        return 2 if any(disk.content_digest for disk in self.disks) else 1

    def _fields(self) -> dict[str, Any]:
        return {
            "point_id": self.point_id,
            "machine_id": self.machine_id,
            "machine_name": self.machine_name,
            "taken_at": self.taken_at.astimezone(UTC).isoformat(timespec="microseconds"),
            "kind": self.kind,
            "parent_point_id": self.parent_point_id,
            "parent_digest": self.parent_digest,
            "consistency": self.consistency,
            "owner_core_id": self.owner_core_id,
            "owner_core_name": self.owner_core_name,
            "ownership_epoch": self.ownership_epoch,
            "description": self.description,
            "disks": [_disk_fields(disk) for disk in self.disks],
        }


def _disk_fields(disk: DiskEntry) -> dict[str, Any]:
    content = {"content_digest": disk.content_digest} if disk.content_digest else {}
    return {
        "number": disk.number,
        "key": disk.key,
        "capacity_bytes": disk.capacity_bytes,
        "file": disk.file,
        "file_bytes": disk.file_bytes,
        "digest": disk.digest,
        **content,
        "cid": disk.cid,
        "parent": list(disk.parent) if disk.parent else None,
        "range_bytes": disk.range_bytes,
        "range_digests": list(disk.range_digests),
    }


def disk_file_name(number: int) -> str:
    return f"disk{number}.vmdk"


def is_point_file(name: str) -> bool:
    """Return whether a point may have a file of that name for others to read."""
    return name == MANIFEST_FILE or _DISK_FILE.fullmatch(name) is not None


def range_bytes_for(capacity_bytes: int) -> int:
    """Return how much of a file one range digest covers, for at most about 4,096 of them."""
    range_bytes = _SMALLEST_RANGE_BYTES
    while range_bytes * _RANGE_LIMIT < capacity_bytes:
        range_bytes *= 2
    return range_bytes


def check_id(text: str) -> str:
    """Return the id if it can be used in names of folders.

    Raises:
        ValueError: it is not a UUID in canonical form.
    """
    if str(uuid.UUID(text)) != text:
        raise ValueError(f"{text!r} is not an id in canonical form")
    return text


def _digest_of(fields: dict[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return blake3(canonical.encode()).hexdigest()


def _parse(whole: dict[str, Any]) -> Manifest:
    taken_at = datetime.fromisoformat(whole["taken_at"])
    if taken_at.utcoffset() != timedelta(0):
        raise ValueError("taken_at is not in UTC")
    manifest = Manifest(
        point_id=check_id(whole["point_id"]),
        machine_id=check_id(whole["machine_id"]),
        machine_name=_text(whole["machine_name"]),
        taken_at=taken_at.astimezone(UTC),
        kind=_one_of(whole["kind"], (BASE_IMAGE, INCREMENTAL)),
        parent_point_id=whole["parent_point_id"],
        parent_digest=whole["parent_digest"],
        description=whole["description"],
        consistency=_text(whole["consistency"]),
        owner_core_id=_text(whole["owner_core_id"]),
        owner_core_name=_text(whole["owner_core_name"]),
        ownership_epoch=_number(whole["ownership_epoch"]),
        disks=tuple(_parse_disk(disk) for disk in whole["disks"][: DISK_LIMIT + 1]),
        digest=_hex(whole["digest"]),
    )
    if not isinstance(manifest.description, dict):
        raise ValueError("description is not an object")
    has_parent = manifest.kind == INCREMENTAL
    if (manifest.parent_point_id is not None) != has_parent:
        raise ValueError("parent_point_id does not match the kind")
    if has_parent:
        check_id(manifest.parent_point_id or "")
        _hex(manifest.parent_digest)
    elif manifest.parent_digest is not None:
        raise ValueError("parent_digest without a parent")
    _check_disks(manifest)
    return manifest


def _check_disks(manifest: Manifest) -> None:
    numbers = [disk.number for disk in manifest.disks]
    keys = {disk.key for disk in manifest.disks}
    if len(numbers) > DISK_LIMIT or len(set(numbers)) < len(numbers) or len(keys) < len(numbers):
        raise ValueError("too many disks, or a duplicate disk")
    for disk in manifest.disks:
        if disk.parent is not None and disk.parent[0] != manifest.parent_point_id:
            raise ValueError(f"disk {disk.number} has its parent outside the parent point")


def _parse_disk(disk: dict[str, Any]) -> DiskEntry:
    parent = disk["parent"]
    entry = DiskEntry(
        number=_number(disk["number"], DISK_LIMIT - 1),
        key=_text(disk["key"]),
        capacity_bytes=_number(disk["capacity_bytes"], CAPACITY_LIMIT_BYTES),
        file=disk["file"],
        file_bytes=_number(disk["file_bytes"], FILE_LIMIT_SECTORS * SECTOR_BYTES),
        digest=_hex(disk["digest"]),
        range_bytes=_number(disk["range_bytes"]),
        range_digests=tuple(_hex(digest) for digest in disk["range_digests"]),
        cid=disk["cid"],
        parent=None if parent is None else (check_id(parent[0]), _number(parent[1])),
        content_digest=_hex(disk["content_digest"]) if "content_digest" in disk else None,
    )
    if entry.file != disk_file_name(entry.number) or not _HEX_CID.fullmatch(entry.cid):
        raise ValueError(f"file or cid of disk {entry.number}")
    if not entry.capacity_bytes or entry.capacity_bytes % SECTOR_BYTES:
        raise ValueError(f"capacity_bytes of disk {entry.number}")
    if entry.range_bytes < _SMALLEST_RANGE_BYTES or len(entry.range_digests) != -(
        -entry.file_bytes // entry.range_bytes
    ):
        raise ValueError(f"range digests of disk {entry.number}")
    return entry


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise ValueError(f"{str(value)[:80]!r} is not a short text")
    return value


def _hex(value: object) -> str:
    if not isinstance(value, str) or not _HEX_DIGEST.fullmatch(value):
        raise ValueError(f"{str(value)[:80]!r} is not a digest")
    return value


def _number(value: object, limit: int = 1 << 62) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError(f"{str(value)[:80]!r} is not a number from 0 to {limit}")
    return value


def _one_of(value: object, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{str(value)[:80]!r} is not one of {', '.join(choices)}")
    return str(value)
