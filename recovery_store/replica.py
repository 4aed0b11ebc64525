"""Receive a recovery point from another core in slices, resumable after any interruption.

Every range is verified as soon as it is complete, so damage in transit costs one range. `commit`
verifies all of it again, that every file is a valid VMDK stream, and that every grain inflates to
what its digest says, before the point exists: an arrived point is proven.
"""

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from blake3 import blake3

from .errors import (
    OffsetDiffers,
    ReplicaDamaged,
    ReplicaRefused,
    StoreBusy,
    StreamRefused,
    VmdkDamaged,
)
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
from .point_writer import StoreAccess, file_hint, put_in_place
from .proof import check_content, digest_range
from .vmdk.contents import ContentReader
from .vmdk.validator import StreamValidator

log = logging.getLogger(__name__)

_READ_BYTES = 4 << 20
# Concurrent requests for one point take turns; one that waits too long is refused.
_LOCK_TIMEOUT_SECONDS = 10
_LOCK_POLL_SECONDS = 0.02


class Replica:
    """An arriving point; made by `Store.begin_replica`, or `Store.get_replica` to resume it.

    Holds nothing open between calls, so a web process can make one for each request.
    """

    def __init__(self, access: StoreAccess, manifest: Manifest, is_complete: bool) -> None:
        self.manifest = manifest
        self.is_complete = is_complete
        self._access = access
        self._name = replica_name(manifest.point_id)
        self._folder = access.unfinished / self._name

    def begin(self) -> None:
        """Store the manifest beside the files to come; keep what has already arrived.

        Raises:
            StoreFull: the point does not fit.
            StoreBusy: another process is adding to it now.
        """
        if self.is_complete:
            return
        with self._locked():
            if self._access.find_folder(self.manifest.point_id) is not None:
                self.is_complete = True  # committed in the meantime
                return
            self._begin()

    def offset_bytes(self, name: str) -> int:
        """Return how much of that file is here, which is where the sender resumes.

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
            OffsetDiffers: they are not the next bytes; `expected_bytes` says which are.
            ReplicaRefused: there is no such file, or it is shorter.
            ReplicaDamaged: a range does not match its digest, and was dropped.
            StoreFull: no space left; the file is as it was.
            StoreBusy: another process is adding to this point now.
        """
        disk = self._disk(name)
        if self.is_complete:
            raise OffsetDiffers(f"{name} is already complete", disk.file_bytes)
        doing = f"receiving {name} of recovery point {self.manifest.point_id}"
        with self._locked(), full_store_named(self._access.root, doing):
            have_bytes = self.offset_bytes(name)
            if offset_bytes != have_bytes:
                raise OffsetDiffers(
                    f"{name} continues at byte {have_bytes}, not {offset_bytes}", have_bytes
                )
            if offset_bytes + len(data) > disk.file_bytes:
                raise ReplicaRefused(
                    f"{name} has {disk.file_bytes} bytes, {offset_bytes + len(data)} were sent"
                )
            self._access.space.check(len(data), doing)
            fd = os.open(
                self._folder / name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
            try:
                self._append(fd, disk, offset_bytes, memoryview(data))
            finally:
                os.close(fd)
        return offset_bytes + len(data)

    def commit(self) -> Manifest:
        """Verify what arrived, make the point exist and return its manifest. Idempotent.

        Raises:
            ReplicaDamaged: a file does not match its digest; the damaged part is dropped, so that
                the sender can resume there. Or a grain does not: the sender's own is damaged.
            ReplicaRefused: a file is incomplete or not the VMDK stream that its manifest says, or
                the parent was deleted in the meantime.
        """
        if self.is_complete:
            return self.manifest
        doing = f"finishing the replica of recovery point {self.manifest.point_id}"
        with self._locked(), full_store_named(self._access.root, doing):
            parent = self._load_parent()
            for disk in self.manifest.disks:
                with ThreadPoolExecutor(2, thread_name_prefix="replica") as pool:
                    self._prove(disk, parent, ContentReader(pool))
                sync_file(self._folder / disk.file)
            sync_folder(self._folder)
            with machine_lock(self._access.machine_folder):
                self._load_parent()
                put_in_place(self._access, self._folder, self.manifest)
        self.is_complete = True
        log.info(
            "replica committed machine=%s point=%s bytes=%d",
            self.manifest.machine_id,
            self.manifest.point_id,
            self.manifest.stored_bytes,
        )
        return self.manifest

    def discard(self) -> None:
        """Remove what has arrived so far; does nothing to a complete point."""
        if not self.is_complete:
            with self._locked():
                remove_folder(self._folder)

    def _begin(self) -> None:
        manifest_path = self._folder / MANIFEST_FILE
        content = self.manifest.to_bytes()
        with full_store_named(self._access.root, "beginning a replica"):
            if manifest_path.is_file() and manifest_path.read_bytes() == content:
                return
            # What came with another manifest is worthless.
            remove_folder(self._folder)
            self._access.space.check(self.manifest.stored_bytes, "beginning a replica")
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
                    f"{disk.file} of recovery point {self.manifest.point_id}: bytes"
                    f" {start} to {end} do not match their digest; send them again from {start}"
                )

    def _load_parent(self) -> Manifest | None:
        """Return the parent; refuse to continue if it was deleted."""
        parent = self._access.load_parent()
        if (parent and parent.digest) != self.manifest.parent_digest:
            raise ReplicaRefused(
                f"The parent of recovery point {self.manifest.point_id} was deleted"
            )
        return parent

    def _prove(self, disk: DiskEntry, parent: Manifest | None, content: ContentReader) -> None:
        """Read a file once; check its ranges, its digest, its grains, and that it is a stream.

        Damage is reported as a wrong digest; faults of the stream itself and of its grains count
        only if all digests are right.
        """
        path = self._folder / disk.file
        have_bytes = self.offset_bytes(disk.file)
        if have_bytes != disk.file_bytes:
            raise ReplicaRefused(
                f"{disk.file} of recovery point {self.manifest.point_id} is incomplete:"
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
                    content.feed(data)
                if part.hexdigest() != expected:
                    file.truncate(start)
                    raise ReplicaDamaged(
                        f"{disk.file} of recovery point {self.manifest.point_id} does not match its"
                        f" digest from byte {start}; send it again from there"
                    )
        if whole.hexdigest() != disk.digest:
            path.unlink()
            raise ReplicaDamaged(
                f"{disk.file} of recovery point {self.manifest.point_id} does not match its digest;"
                " send it again"
            )
        judge.finish(f"{disk.file} of recovery point {self.manifest.point_id}")
        try:
            check_content(content, disk)
        except VmdkDamaged as error:
            raise ReplicaDamaged(
                f"{disk.file} of recovery point {self.manifest.point_id} arrived as it was sent,"
                f" but cannot be restored: {error}"
            ) from error

    def _disk(self, name: str) -> DiskEntry:
        for disk in self.manifest.disks:
            if disk.file == name:
                return disk
        raise ReplicaRefused(f"Recovery point {self.manifest.point_id} has no file {name[:80]!r}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._access.check_identity()
        ensure_folder(self._access.unfinished)
        deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
        while True:
            try:
                lock = WriterLock(
                    self._access.unfinished, self._name, self.manifest.parent_point_id
                )
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
    """Feeds a validator until it refuses, and raises that only at the end."""

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
            raise ReplicaRefused(f"{what} is not a valid VMDK stream: {error}") from error
