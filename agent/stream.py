"""Send a view to a core: each disk as a VMDK stream, whole or a delta, in constant memory.

`recovery_store.vmdk.imaging` reads and deflates. This module turns its callbacks into frames, and
requests the parent point's digests one slice before they are needed.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.errors import ProtocolBroken, SnapshotFailed
from agent.protocol import (
    DIGEST_BYTES,
    DIGESTS_HEAD,
    DISK_DATA,
    DISK_DATA_HEAD,
    DISK_DIGESTS,
    MAX_DATA_BYTES,
    PARENT_DIGESTS,
    SLICE_GRAINS,
    SLICES_AHEAD,
    Channel,
    grain_count,
    split_digests,
)
from agent.providers import Disk, DiskView, View
from agent.reading import open_source
from recovery_store.errors import SourceUnreadable, VmdkError
from recovery_store.vmdk.imaging import MeasuredWrite, stream_disk
from recovery_store.vmdk.writer import StreamWriter

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class ParentDisk:
    """A disk in the parent point; `key` identifies it."""

    key: str
    number: int
    cid: str
    file_hint: str
    capacity_bytes: int


def send_view(
    channel: Channel,
    view: View,
    parents: dict[str, ParentDisk],
    beat: Callable[[], object] | None = None,
) -> dict[str, str]:
    """Stream all disks of a view, and return their content ids by key.

    A disk whose parent is missing or was larger is streamed whole. If the view knows what has
    changed since the parent, only that is read.

    beat: called twice a second while the core accepts data; an exception from it ends the stream.

    Raises:
        CoreGone: the core is lost.
        SnapshotFailed: a disk cannot be read, or the view was lost.
    """
    total_bytes = sum(disk_view.capacity_bytes for disk_view in view.disks)
    progress = _Progress(channel, total_bytes, beat)
    cids = {}
    for disk_view in view.disks:
        parent = parents.get(disk_view.disk.key)
        if parent is not None and parent.capacity_bytes > disk_view.capacity_bytes:
            parent = None
        cids[disk_view.disk.key] = _send_disk(channel, view, disk_view, parent, progress)
        progress.finish_disk(disk_view.capacity_bytes)
    return cids


def _send_disk(
    channel: Channel,
    view: View,
    disk_view: DiskView,
    parent: ParentDisk | None,
    progress: _Progress,
) -> str:
    disk = disk_view.disk
    started_at = time.monotonic()
    cid = _new_cid(parent)
    only = _find_changed(disk_view, parent)
    channel.send_control(_begin_message(disk_view, cid, parent))
    sender = _DiskSender(channel, disk.number)
    writer = StreamWriter(
        sender.measured,
        disk_view.capacity_bytes,
        cid,
        parent_cid=parent.cid if parent else None,
        parent_file_hint=parent.file_hint if parent else None,
    )
    try:
        with open_source(disk_view.path) as (descriptor, read):
            stream_disk(
                descriptor,
                disk_view.capacity_bytes,
                writer,
                sender.put_digests,
                _ParentDigests(channel, disk.number, parent, only).get if parent else None,
                progress.report,
                read=read,
                only=only,
            )
        # Before the end of the stream: data from a lost view must never look complete.
        view.check()
        writer.finish()
    except SourceUnreadable as error:
        view.check()
        raise SnapshotFailed(f"Reading disk {disk.number} ({disk.device}): {error}") from error
    except VmdkError as error:
        raise SnapshotFailed(f"Streaming disk {disk.number} ({disk.device}): {error}") from error
    sender.finish()
    log.info(
        "disk sent number=%d key=%s is_delta=%s read_grains=%d stream_bytes=%d seconds=%.1f",
        disk.number,
        disk.key,
        parent is not None,
        grain_count(disk_view.capacity_bytes) if only is None else sum(run[1] for run in only),
        sender.measured.length_bytes,
        time.monotonic() - started_at,
    )
    return cid


def _find_changed(
    disk_view: DiskView, parent: ParentDisk | None
) -> Sequence[tuple[int, int]] | None:
    """Return the grains that may differ from the parent's; None means all."""
    if (
        disk_view.changed is None
        or parent is None
        or parent.capacity_bytes != disk_view.capacity_bytes
    ):
        return None
    return disk_view.changed


def _begin_message(disk_view: DiskView, cid: str, parent: ParentDisk | None) -> dict[str, object]:
    return {
        "type": "begin_disk",
        "number": disk_view.disk.number,
        "key": disk_view.disk.key,
        "capacity_bytes": disk_view.capacity_bytes,
        "cid": cid,
        "has_parent": parent is not None,
    }


def _new_cid(parent: ParentDisk | None) -> str:
    """Return a content id that is neither the parent's nor the one for no parent."""
    while True:
        cid = secrets.token_hex(4)
        if cid != "ffffffff" and (parent is None or cid != parent.cid):
            return cid


class _DiskSender:
    """Sends the bytes and digests of one disk."""

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._number = number
        self._first_grain = 0
        self._digests = bytearray()
        self.measured = MeasuredWrite(self._send_data)

    def _send_data(self, data: bytes) -> None:
        head = DISK_DATA_HEAD.pack(self._number)
        view = memoryview(data)
        for start in range(0, len(view), MAX_DATA_BYTES):
            self._channel.send(DISK_DATA, head, view[start : start + MAX_DATA_BYTES])

    def put_digests(self, first_grain: int, digests: bytes) -> None:
        """Collect adjacent runs, so that they travel in few frames."""
        if first_grain != self._first_grain + len(self._digests) // DIGEST_BYTES:
            self._send_digests()
            self._first_grain = first_grain
        self._digests += digests
        while len(self._digests) >= SLICE_GRAINS * DIGEST_BYTES:
            self._send_digests()

    def _send_digests(self) -> None:
        if not self._digests:
            return
        part = bytes(self._digests[: SLICE_GRAINS * DIGEST_BYTES])
        head = DIGESTS_HEAD.pack(self._number, self._first_grain)
        self._channel.send(DISK_DIGESTS, head, part)
        self._first_grain += len(part) // DIGEST_BYTES
        del self._digests[: len(part)]

    def finish(self) -> None:
        """Send the remaining digests, and the length and digest of the stream."""
        self._send_digests()
        self._channel.send_control(
            {
                "type": "finish_disk",
                "number": self._number,
                "length_bytes": self.measured.length_bytes,
                "digest": self.measured.digest_hex,
            }
        )


class _ParentDigests:
    """Requests the parent's digests from the core in ascending slices, one in advance.

    only: the runs (first grain, count) whose digests are needed; None means all.
    """

    def __init__(
        self,
        channel: Channel,
        number: int,
        parent: ParentDisk,
        only: Iterable[tuple[int, int]] | None,
    ) -> None:
        self._channel = channel
        self._number = number
        self._parent_grains = grain_count(parent.capacity_bytes)
        runs = [(0, self._parent_grains)] if only is None else only
        self._not_asked = deque(_slices(runs))
        self._asked: deque[tuple[int, int]] = deque()

    def get(self, first_grain: int, count: int) -> bytes:
        """Return the digests; those of grains past the parent's end are zero."""
        known_count = max(0, min(count, self._parent_grains - first_grain))
        parts = bytearray()
        while len(parts) < known_count * DIGEST_BYTES:
            self._ask_ahead()
            parts += self._take_slice(first_grain + len(parts) // DIGEST_BYTES)
        if len(parts) > known_count * DIGEST_BYTES:
            raise ProtocolBroken("Parent digests are needed in whole slices")
        return bytes(parts.ljust(count * DIGEST_BYTES, b"\0"))

    def _ask_ahead(self) -> None:
        while len(self._asked) < SLICES_AHEAD and self._not_asked:
            first_grain = self._not_asked.popleft() * SLICE_GRAINS
            count = min(SLICE_GRAINS, self._parent_grains - first_grain)
            self._channel.send_control(
                {
                    "type": "need_parent_digests",
                    "number": self._number,
                    "first_grain": first_grain,
                    "count": count,
                }
            )
            self._asked.append((first_grain, count))

    def _take_slice(self, first_grain: int) -> memoryview:
        expected_first, expected_count = self._asked.popleft()
        frame = self._channel.receive()
        if frame.kind != PARENT_DIGESTS:
            raise ProtocolBroken(f"Waiting for parent digests: got a frame of kind {frame.kind}")
        number, first, digests = split_digests(frame)
        if (
            (number, first) != (self._number, expected_first)
            or first != first_grain
            or len(digests) != expected_count * DIGEST_BYTES
        ):
            raise ProtocolBroken("The core sent parent digests that were not requested")
        return digests


def _slices(runs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the numbers of the slices that contain the runs, ascending."""
    return sorted(
        {
            number
            for first, count in runs
            for number in range(first // SLICE_GRAINS, -(-(first + count) // SLICE_GRAINS))
        }
    )


class _Progress:
    """Reports the reading progress to the core, which also shows that the agent is alive."""

    def __init__(
        self, channel: Channel, total_bytes: int, beat: Callable[[], object] | None
    ) -> None:
        self._channel = channel
        self._beat = beat
        self._total_bytes = total_bytes
        self._finished_bytes = 0
        self._next_at = 0.0

    def report(self, done_bytes: int, _total_bytes: int) -> None:
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + PROGRESS_SECONDS
            self._send(self._finished_bytes + done_bytes)

    def finish_disk(self, capacity_bytes: int) -> None:
        self._finished_bytes += capacity_bytes
        self._send(self._finished_bytes)

    def _send(self, done_bytes: int) -> None:
        self._channel.send_control(
            {"type": "progress", "done_bytes": done_bytes, "total_bytes": self._total_bytes}
        )
        if self._beat is not None:
            self._beat()


def description_of(disk: Disk) -> dict[str, object]:
    """Return a disk in the form that descriptions use."""
    return {
        "number": disk.number,
        "key": disk.key,
        "device": disk.device,
        "capacity_bytes": disk.capacity_bytes,
        "controller": disk.controller,
        "is_boot": disk.is_boot,
    }
