"""Take over a recovery point from another core, in pieces, resumable after any cut.

Every range is proven as soon as it is whole, so damage on the way costs one range. The point
exists when `commit` has proven all of it again, and that it is a VMDK stream through and through.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from blake3 import blake3

from .errors import OffsetDiffers, ReplicaDamaged, ReplicaRefused, StoreBusy, StreamRefused
from .folders import (
    WriterLock,
    ensure_folder,
    full_store_named,
    machine_lock,
    remove_folder,
    replica_name,
    sync_file,
    sync_folder,
    write_synced,
)
from .manifest import MANIFEST_FILE, DiskEntry, Manifest
from .point_writer import PointPlace, file_hint, put_in_place
from .proof import digest_range
from .vmdk.validator import StreamValidator

log = logging.getLogger(__name__)

_READ_BYTES = 4 << 20
# Two requests for one point take turns; a third finds it busy.
_LOCK_TIMEOUT_SECONDS = 10
_LOCK_POLL_SECONDS = 0.02


class Replica:
    """A point on its way in; made by `Store.begin_replica` and, to go on, by `Store.get_replica`.

    It holds nothing open between calls, so a web process may make one for each request.
    """

    def __init__(self, place: PointPlace, manifest: Manifest, is_complete: bool) -> None:
        self.manifest = manifest
        self.is_complete = is_complete
        self._place = place
        self._name = replica_name(manifest.point_id)
        self._folder = place.unfinished / self._name

    def begin(self) -> None:
        """Keep the manifest beside the files to come; what came of the same point before stays.

        Raises:
            StoreFull: the point would not fit.
            StoreBusy: another process is adding to it now.
        """
        if self.is_complete:
            return
        with self._locked():
            if self._place.find_folder(self.manifest.point_id) is not None:
                self.is_complete = True  # meanwhile
                return
            self._begin()

    def offset_bytes(self, name: str) -> int:
        """Return how much of that file is here: where the sender goes on.

        Raises:
            ReplicaRefused: the manifest names no such file.
        """
        disk = self._disk(name)
        if self.is_complete:
            return disk.file_bytes
        try:
            return (self._folder / name).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, name: str, offset_bytes: int, data: bytes | memoryview) -> int:
        """Add the next bytes of a file and return the new offset.

        Raises:
            OffsetDiffers: they are not the next ones; `expected_bytes` says which are.
            ReplicaRefused: no such file, or more bytes than it has.
            ReplicaDamaged: a range differs from its digest; the file ends before it again.
            StoreFull: no space; the file ends where it did before.
            StoreBusy: another process is adding to this point now.
        """
        disk = self._disk(name)
        if self.is_complete:
            raise OffsetDiffers(f"{name} is here in full", disk.file_bytes)
        doing = f"receiving {name} of recovery point {self.manifest.point_id}"
        with self._locked(), full_store_named(self._place.root, doing):
            have_bytes = self.offset_bytes(name)
            if offset_bytes != have_bytes:
                raise OffsetDiffers(
                    f"{name} goes on at byte {have_bytes}, not {offset_bytes}", have_bytes
                )
            if offset_bytes + len(data) > disk.file_bytes:
                raise ReplicaRefused(
                    f"{name} has {disk.file_bytes} bytes, {offset_bytes + len(data)} were sent"
                )
            self._place.space.check(len(data), doing)
            fd = os.open(
                self._folder / name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
            try:
                self._append(fd, disk, offset_bytes, memoryview(data))
            finally:
                os.close(fd)
        return offset_bytes + len(data)

    def commit(self) -> Manifest:
        """Prove what arrived, make the point exist and return its manifest; again is harmless.

        Raises:
            ReplicaDamaged: a file differs from its digest; its damaged part is dropped, so that
                the sender can go on from there.
            ReplicaRefused: a file is not whole, or is no VMDK stream that fits its manifest.
        """
        if self.is_complete:
            return self.manifest
        doing = f"finishing the replica of recovery point {self.manifest.point_id}"
        with self._locked(), full_store_named(self._place.root, doing):
            parent = self._load_parent()
            for disk in self.manifest.disks:
                self._prove(disk, parent)
                sync_file(self._folder / disk.file)
            sync_folder(self._folder)
            with machine_lock(self._place.machine_folder):
                self._load_parent()
                put_in_place(self._place, self._folder, self.manifest)
        self.is_complete = True
        log.info(
            "replica committed machine=%s point=%s bytes=%d",
            self.manifest.machine_id,
            self.manifest.point_id,
            self.manifest.stored_bytes,
        )
        return self.manifest

    def discard(self) -> None:
        """Remove what has arrived so far; a point that is whole stays."""
        if not self.is_complete:
            with self._locked():
                remove_folder(self._folder)

    def _begin(self) -> None:
        manifest_path = self._folder / MANIFEST_FILE
        content = self.manifest.to_bytes()
        with full_store_named(self._place.root, "beginning a replica"):
            if manifest_path.is_file() and manifest_path.read_bytes() == content:
                return
            # Pieces of another state of that point are worth nothing.
            remove_folder(self._folder)
            self._place.space.check(self.manifest.stored_bytes, "beginning a replica")
            self._folder.mkdir()
            write_synced(manifest_path, content)

    def _append(self, fd: int, disk: DiskEntry, offset_bytes: int, data: memoryview) -> None:
        position = offset_bytes
        try:
            while data:
                count = os.write(fd, data)
                position += count
                data = data[count:]
        except OSError:
            os.ftruncate(fd, offset_bytes)
            raise
        buffer = memoryview(bytearray(_READ_BYTES))
        for number in range(offset_bytes // disk.range_bytes, len(disk.range_digests)):
            start = number * disk.range_bytes
            end = min(start + disk.range_bytes, disk.file_bytes)
            if end > position:
                break
            if digest_range(fd, start, end, buffer) != disk.range_digests[number]:
                os.ftruncate(fd, start)
                raise ReplicaDamaged(
                    f"{disk.file} of recovery point {self.manifest.point_id}: what arrived for"
                    f" bytes {start} to {end} differs from its digest; send it again from {start}"
                )

    def _load_parent(self) -> Manifest | None:
        """Return the parent; refuse to go on if it is not there any more."""
        parent = self._place.load_parent()
        if (parent and parent.digest) != self.manifest.parent_digest:
            raise ReplicaRefused(
                f"The parent of recovery point {self.manifest.point_id} has gone meanwhile"
            )
        return parent

    def _prove(self, disk: DiskEntry, parent: Manifest | None) -> None:
        """Read a file once: its ranges, its whole, and that it is the stream it should be.

        Damage shows as a digest that differs and is told as that; the stream's own lies count
        only where all digests are right.
        """
        path = self._folder / disk.file
        have_bytes = self.offset_bytes(disk.file)
        if have_bytes != disk.file_bytes:
            raise ReplicaRefused(
                f"{disk.file} of recovery point {self.manifest.point_id} is not whole:"
                f" {have_bytes} of {disk.file_bytes} bytes are here"
            )
        judge = _Judge(_validator(disk, parent))
        whole = blake3()
        with path.open("r+b", buffering=0) as file:
            for number, expected in enumerate(disk.range_digests):
                start = number * disk.range_bytes
                part = blake3()
                left = min(disk.range_bytes, disk.file_bytes - start)
                while left and (data := file.read(min(left, _READ_BYTES))):
                    left -= len(data)
                    part.update(data)
                    whole.update(data)
                    judge.feed(data)
                if part.hexdigest() != expected:
                    file.truncate(start)
                    raise ReplicaDamaged(
                        f"{disk.file} of recovery point {self.manifest.point_id} differs from its"
                        f" digest from byte {start} on; send it again from there"
                    )
        if whole.hexdigest() != disk.digest:
            path.unlink()
            raise ReplicaDamaged(
                f"{disk.file} of recovery point {self.manifest.point_id} differs from its digest;"
                " send it again"
            )
        judge.finish(f"{disk.file} of recovery point {self.manifest.point_id}")

    def _disk(self, name: str) -> DiskEntry:
        for disk in self.manifest.disks:
            if disk.file == name:
                return disk
        raise ReplicaRefused(f"Recovery point {self.manifest.point_id} has no file {name[:80]!r}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        ensure_folder(self._place.unfinished)
        deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
        while True:
            try:
                lock = WriterLock(self._place.unfinished, self._name, self.manifest.parent_point_id)
                break
            except StoreBusy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOCK_POLL_SECONDS)
        with lock:
            yield


def _validator(disk: DiskEntry, parent: Manifest | None) -> StreamValidator:
    if disk.parent is None or parent is None:
        return StreamValidator(disk.capacity_bytes, disk.cid)
    below = parent.disk(disk.parent[1])
    return StreamValidator(disk.capacity_bytes, disk.cid, below.cid, file_hint(parent, below))


class _Judge:
    """Feeds a validator until it refuses, and says so only when asked."""

    def __init__(self, validator: StreamValidator) -> None:
        self._validator = validator
        self._refusal: StreamRefused | None = None

    def feed(self, data: bytes) -> None:
        if self._refusal is None:
            try:
                self._validator.feed(data)
            except StreamRefused as refusal:
                self._refusal = refusal

    def finish(self, what: str) -> None:
        try:
            if self._refusal is not None:
                raise self._refusal
            self._validator.finish()
        except StreamRefused as error:
            raise ReplicaRefused(f"{what} is no VMDK stream: {error}") from error
