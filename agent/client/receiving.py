"""Receive the disks of a point from an untrusted agent, and pass them to a sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from agent.client.connection import checked_message
from agent.errors import ProtocolBroken
from agent.protocol import (
    CONTROL,
    DIGEST_BYTES,
    DIGESTS_HEAD,
    DISK_DATA,
    DISK_DIGESTS,
    MAX_CAPACITY_BYTES,
    MAX_DISKS,
    PARENT_DIGESTS,
    SLICE_GRAINS,
    Channel,
    Frame,
    Message,
    get_int,
    get_text,
    grain_count,
    split_digests,
    split_disk_data,
)

_MAX_DISK_STREAM_OVERHEAD_BYTES = 16 * 1024 * 1024


class KnownDisk(Protocol):
    """A disk in the parent point, such as a `ParentDisk`, or the store's own."""

    @property
    def key(self) -> str:
        """The key that the disk keeps on any hardware."""

    @property
    def number(self) -> int:
        """Its number in the parent point."""

    @property
    def cid(self) -> str:
        """The parent's content id, eight hex digits."""

    @property
    def file_hint(self) -> str:
        """The path of the parent's file, relative to the child's folder."""

    @property
    def capacity_bytes(self) -> int:
        """The size of the disk."""


class SnapshotSink(Protocol):
    """Takes the bytes of a point; `recovery_store`'s PointWriter is one."""

    def begin_disk(
        self, number: int, key: str, capacity_bytes: int, cid: str, has_parent: bool
    ) -> object:
        """Begin a disk's stream."""

    def write(self, number: int, data: memoryview) -> object:
        """Take the next bytes of the VMDK stream."""

    def put_digests(self, number: int, first_grain: int, digests: bytes) -> object:
        """Take the digests of a run of grains, 16 bytes each."""

    def parent_digests(self, number: int, first_grain: int, count: int) -> bytes:
        """Return the parent point's digests; `number` is the disk's number in the new point."""

    def finish_disk(self, number: int, length_bytes: int, digest_hex: str) -> object:
        """End a disk's stream; raise if the length or digest of what arrived differs."""


class Receiver:
    """Receives the disks of one point; rejects any frame that is out of turn."""

    def __init__(
        self,
        channel: Channel,
        sink: SnapshotSink,
        parents: Sequence[KnownDisk],
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self._channel = channel
        self._sink = sink
        self._parents = {parent.key: parent for parent in parents}
        self._progress = progress
        self._keys: set[str] = set()
        self._numbers: set[int] = set()
        self._open: _OpenDisk | None = None

    def receive_disks(self) -> Message:
        """Receive until the agent reports the end; return that message."""
        while True:
            frame = self._channel.receive()
            if frame.kind == DISK_DATA:
                self._take_data(frame)
            elif frame.kind == DISK_DIGESTS:
                self._take_digests(frame)
            elif frame.kind != CONTROL:
                raise ProtocolBroken(f"The agent sent a frame of kind {frame.kind}")
            else:
                message = checked_message(frame)
                if self._take_message(message):
                    return message

    def _take_message(self, message: Message) -> bool:
        kind = message["type"]
        if kind == "progress":
            self._report(message)
        elif kind == "begin_disk":
            self._begin(message)
        elif kind == "need_parent_digests":
            self._send_parent_digests(message)
        elif kind == "finish_disk":
            self._finish(message)
        elif kind == "snapshot_done":
            if self._open is not None or not self._numbers:
                raise ProtocolBroken(
                    "The agent reports that a point is complete, but its disks are not"
                )
            return True
        else:
            raise ProtocolBroken(f"In the middle of a stream, the agent sent {kind[:40]!r}")
        return False

    def _report(self, message: Message) -> None:
        total_bytes = get_int(message, "total_bytes", 0, MAX_CAPACITY_BYTES * MAX_DISKS)
        done_bytes = get_int(message, "done_bytes", 0, total_bytes)
        if self._progress is not None:
            self._progress(done_bytes, total_bytes)

    def _begin(self, message: Message) -> None:
        number = get_int(message, "number", 0, MAX_DISKS)
        key = get_text(message, "key", 200)
        capacity_bytes = get_int(message, "capacity_bytes", 512, MAX_CAPACITY_BYTES)
        cid = get_text(message, "cid", 8)
        has_parent = message.get("has_parent")
        if self._open is not None or number in self._numbers or key in self._keys:
            raise ProtocolBroken(f"The agent began disk {number} ({key!r}) out of turn")
        if capacity_bytes % 512 or not _is_cid(cid) or not isinstance(has_parent, bool):
            raise ProtocolBroken(f"The agent began disk {number} ({key!r}) with invalid properties")
        parent = self._parents.get(key) if has_parent else None
        if has_parent and (parent is None or parent.capacity_bytes > capacity_bytes):
            raise ProtocolBroken(
                f"The agent sends disk {number} ({key!r}) as a delta without a known parent"
            )
        self._numbers.add(number)
        self._keys.add(key)
        self._open = _OpenDisk(number, capacity_bytes, parent)
        self._sink.begin_disk(number, key, capacity_bytes, cid, has_parent)

    def _take_data(self, frame: Frame) -> None:
        number, data = split_disk_data(frame)
        disk = self._open_disk(number)
        disk.received_bytes += len(data)
        if disk.received_bytes > disk.limit_bytes:
            raise ProtocolBroken(
                f"Disk {number}: the agent sent more than {disk.limit_bytes} bytes, the limit for "
                "a disk of that size"
            )
        self._sink.write(number, data)

    def _take_digests(self, frame: Frame) -> None:
        number, first_grain, digests = split_digests(frame)
        disk = self._open_disk(number)
        count = len(digests) // DIGEST_BYTES
        if first_grain < disk.next_digest_grain or first_grain + count > disk.grains:
            raise ProtocolBroken(
                f"Disk {number}: the agent sent digests of grains {first_grain} to "
                f"{first_grain + count - 1}, out of turn or past the end"
            )
        disk.next_digest_grain = first_grain + count
        self._sink.put_digests(number, first_grain, bytes(digests))

    def _send_parent_digests(self, message: Message) -> None:
        disk = self._open_disk(get_int(message, "number", 0, MAX_DISKS))
        first_grain = get_int(message, "first_grain", 0, max(0, disk.parent_grains - 1))
        count = get_int(message, "count", 1, SLICE_GRAINS)
        if first_grain + count > disk.parent_grains:
            raise ProtocolBroken(
                f"Disk {disk.number}: the agent requests the digests of grains {first_grain} to "
                f"{first_grain + count - 1}, but the parent has {disk.parent_grains}"
            )
        digests = self._sink.parent_digests(disk.number, first_grain, count)
        head = DIGESTS_HEAD.pack(disk.number, first_grain)
        self._channel.send(PARENT_DIGESTS, head, digests)

    def _finish(self, message: Message) -> None:
        disk = self._open_disk(get_int(message, "number", 0, MAX_DISKS))
        length_bytes = get_int(message, "length_bytes", 0, disk.limit_bytes)
        if length_bytes != disk.received_bytes:
            raise ProtocolBroken(
                f"Disk {disk.number}: the agent reports {length_bytes} bytes, but "
                f"{disk.received_bytes} arrived"
            )
        self._sink.finish_disk(disk.number, length_bytes, get_text(message, "digest", 64))
        self._open = None

    def _open_disk(self, number: int) -> _OpenDisk:
        if self._open is None or self._open.number != number:
            raise ProtocolBroken(f"The agent sent a message about disk {number}, which is not open")
        return self._open


class _OpenDisk:
    """The disk whose stream is arriving."""

    def __init__(self, number: int, capacity_bytes: int, parent: KnownDisk | None) -> None:
        self.number = number
        self.grains = grain_count(capacity_bytes)
        self.parent_grains = grain_count(parent.capacity_bytes) if parent else 0
        self.next_digest_grain = 0
        self.received_bytes = 0
        # Markers, tables and incompressible grains add less than a sixteenth.
        self.limit_bytes = capacity_bytes + capacity_bytes // 16 + _MAX_DISK_STREAM_OVERHEAD_BYTES


def _is_cid(text: str) -> bool:
    return len(text) == 8 and all(letter in "0123456789abcdef" for letter in text)
