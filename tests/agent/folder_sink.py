"""A sink that writes what an agent sends into a folder, and believes nothing."""

from pathlib import Path

from blake3 import blake3

from agent.client import ParentDisk

DIGEST_BYTES = 16
GRAIN_BYTES = 64 * 1024


class StreamDiffers(Exception):
    """What arrived is not what the agent says it sent."""


class SinkDisk:
    """One disk of a point."""

    def __init__(self, path: Path, key: str, capacity_bytes: int, cid: str) -> None:
        self.path = path
        self.key = key
        self.capacity_bytes = capacity_bytes
        self.cid = cid
        self.has_parent = False
        path.write_bytes(b"")
        self.hash = blake3()
        self.digests = bytearray(-(-capacity_bytes // GRAIN_BYTES) * DIGEST_BYTES)


class FolderSink:
    """A point in a folder, with the disks of its parent beside it."""

    def __init__(self, folder: Path, parent: "FolderSink | None" = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.parent = parent
        self.disks: dict[int, SinkDisk] = {}
        self.finished: set[int] = set()

    def parent_disks(self) -> list[ParentDisk]:
        disks = self.parent.disks if self.parent else {}
        return [
            ParentDisk(
                disk.key,
                number,
                disk.cid,
                f"../{disk.path.parent.name}/{disk.path.name}",
                disk.capacity_bytes,
            )
            for number, disk in disks.items()
        ]

    def begin_disk(
        self, number: int, key: str, capacity_bytes: int, cid: str, has_parent: bool
    ) -> None:
        disk = SinkDisk(self.folder / f"disk{number}.vmdk", key, capacity_bytes, cid)
        disk.has_parent = has_parent
        if has_parent:
            before = self._parent_of(key).digests
            disk.digests[: len(before)] = before
        self.disks[number] = disk

    def write(self, number: int, data: memoryview) -> None:
        disk = self.disks[number]
        with disk.path.open("ab") as file:
            file.write(data)
        disk.hash.update(data)

    def put_digests(self, number: int, first_grain: int, digests: bytes) -> None:
        start = first_grain * DIGEST_BYTES
        self.disks[number].digests[start : start + len(digests)] = digests

    def parent_digests(self, number: int, first_grain: int, count: int) -> bytes:
        digests = self._parent_of(self.disks[number].key).digests
        return bytes(digests[first_grain * DIGEST_BYTES : (first_grain + count) * DIGEST_BYTES])

    def finish_disk(self, number: int, length_bytes: int, digest_hex: str) -> None:
        disk = self.disks[number]
        if disk.path.stat().st_size != length_bytes or disk.hash.hexdigest() != digest_hex:
            raise StreamDiffers(f"disk {number}")
        self.finished.add(number)

    def _parent_of(self, key: str) -> SinkDisk:
        assert self.parent is not None
        return next(disk for disk in self.parent.disks.values() if disk.key == key)
