"""Write one recovery point: the disks as they arrive, the manifest last, then one rename.

The point exists only once `commit` has renamed it. A process that is killed before leaves a folder
in `unfinished`, which the next writer of that point, or `clean`, removes.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from blake3 import blake3

from .errors import ParentUnfit, PointExists, StreamRefused
from .folders import (
    Space,
    WriterLock,
    ensure_folder,
    full_store_named,
    machine_lock,
    remove_folder,
    sync_folder,
    write_synced,
)
from .grain_table import (
    SLICE_GRAINS,
    GrainTable,
    GrainTableBuilder,
    TableOwner,
    table_file_name,
)
from .manifest import (
    BASE_IMAGE,
    DISK_LIMIT,
    INCREMENTAL,
    MANIFEST_FILE,
    DiskEntry,
    Manifest,
    disk_file_name,
    range_bytes_for,
)
from .vmdk.contents import content_entry
from .vmdk.imaging import DIGEST_BYTES, ZERO_DIGEST
from .vmdk.layout import ENTRY_ABSENT, ENTRY_ZERO, GRAINS_PER_TABLE, TABLE_BYTES
from .vmdk.reader import FilePool, StreamFile
from .vmdk.validator import StreamValidator
from .vmdk.writer import check_capacity

log = logging.getLogger(__name__)

_SPACE_CHECK_BYTES = 16 << 20
_WRITE_BACK_BYTES = 32 << 20
_TABLES_PER_SLICE = SLICE_GRAINS // GRAINS_PER_TABLE
_TABLE_DIGESTS_BYTES = GRAINS_PER_TABLE * DIGEST_BYTES
_EMPTY_DIGESTS = bytes(_TABLE_DIGESTS_BYTES)
assert TABLE_BYTES == 4 * GRAINS_PER_TABLE


@dataclass(frozen=True)
class ParentDisk:
    """A disk of the parent point, as described to the agent."""

    key: str
    number: int
    cid: str
    file_hint: str
    capacity_bytes: int


@dataclass(frozen=True)
class StoreAccess:
    """What a writer may use of the store: one machine's folders, and its parent point."""

    root: Path
    machine_folder: Path
    points: Path
    unfinished: Path
    space: Space
    check_identity: Callable[[], None]
    open_table: Callable[[Manifest, DiskEntry], GrainTable]
    find_folder: Callable[[str], Path | None]
    load_parent: Callable[[], Manifest | None]


class RangeDigests:
    """Digests a file while it is written, as a whole and by ranges."""

    def __init__(self, range_bytes: int) -> None:
        self.range_bytes = range_bytes
        self._whole = blake3()
        self._range = blake3()
        self._range_left = range_bytes
        self._done: list[str] = []

    def update(self, data: memoryview) -> None:
        self._whole.update(data)
        while data:
            part = data[: self._range_left]
            self._range.update(part)
            self._range_left -= len(part)
            data = data[len(part) :]
            if not self._range_left:
                self._done.append(self._range.hexdigest())
                self._range = blake3()
                self._range_left = self.range_bytes

    def whole(self) -> str:
        return self._whole.hexdigest()

    def ranges(self) -> tuple[str, ...]:
        if self._range_left == self.range_bytes:
            return tuple(self._done)
        return (*self._done, self._range.hexdigest())


class _DiskBeingWritten:
    """A disk whose stream is being written to its file."""

    def __init__(
        self,
        folder: Path,
        number: int,
        key: str,
        capacity_bytes: int,
        cid: str,
        parent: tuple[Manifest, DiskEntry] | None,
        parent_table: GrainTable | None,
    ) -> None:
        self.number = number
        self.key = key
        self.capacity_bytes = capacity_bytes
        self.cid = cid
        self.parent = parent
        self.parent_table = parent_table
        self.path = folder / disk_file_name(number)
        self.digests = RangeDigests(range_bytes_for(capacity_bytes))
        self.validator = StreamValidator(
            capacity_bytes,
            cid,
            parent[1].cid if parent else None,
            file_hint(parent[0], parent[1]) if parent else None,
        )
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self.length_bytes = 0
        self._written_back_bytes = 0
        self.table = GrainTableBuilder(
            folder / table_file_name(number), capacity_bytes, parent_table
        )

    def write(self, data: memoryview) -> None:
        self.validator.feed(data)
        self.digests.update(data)
        self.length_bytes += len(data)
        while data:
            data = data[os.write(self.fd, data) :]
        if self.length_bytes - self._written_back_bytes >= _WRITE_BACK_BYTES:
            # Makes Linux start to write the dirty pages, so that the final sync is short.
            start, count = self._written_back_bytes, self.length_bytes - self._written_back_bytes
            os.posix_fadvise(self.fd, start, count, os.POSIX_FADV_DONTNEED)
            self._written_back_bytes = self.length_bytes

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.table.close()
        if self.parent_table is not None:
            self.parent_table.close()
            self.parent_table = None


class PointWriter:
    """Writes a new point; made by `Store.begin_point`.

    Use it as a context manager: leaving it without `commit` removes what was written. Not
    thread-safe.
    """

    def __init__(
        self,
        access: StoreAccess,
        draft: Manifest,
        parent: Manifest | None,
    ) -> None:
        self._access: Final = access
        self._draft = draft
        self._parent = parent
        self._disks: dict[int, _DiskBeingWritten] = {}
        self._finished: list[DiskEntry] = []
        self._unchecked_bytes = 0
        self._is_over = False
        self._has_failed = False
        self._started = time.monotonic()
        self._folder = access.unfinished / draft.point_id
        ensure_folder(access.unfinished)
        self._lock = WriterLock(access.unfinished, draft.point_id, draft.parent_point_id)
        try:
            if access.find_folder(draft.point_id) is not None:
                raise PointExists(
                    f"Recovery point {draft.point_id} is already in the store; choose a new id"
                )
            remove_folder(self._folder)
            with self._naming_faults("beginning a recovery point"):
                access.space.check(0, "beginning a recovery point")
                self._folder.mkdir()
        except BaseException:
            self._lock.release()
            raise
        log.info(
            "point begun machine=%s point=%s parent=%s",
            draft.machine_id,
            draft.point_id,
            draft.parent_point_id,
        )

    @property
    def point_id(self) -> str:
        return self._draft.point_id

    def parent_disks(self) -> list[ParentDisk]:
        """Return the disks of the parent point; none for a base image."""
        if self._parent is None:
            return []
        return [
            ParentDisk(
                disk.key, disk.number, disk.cid, file_hint(self._parent, disk), disk.capacity_bytes
            )
            for disk in self._parent.disks
        ]

    def begin_disk(
        self, number: int, key: str, capacity_bytes: int, cid: str, has_parent: bool
    ) -> None:
        """Begin a disk; its stream follows in pieces.

        has_parent: the stream is a delta of the disk with the same key in the parent point.

        Raises:
            StreamRefused: the number or key is taken, or the parent's disk cannot be a parent.
            VmdkLimit: a VMDK cannot have that capacity.
        """
        check_capacity(capacity_bytes)
        taken = [(disk.number, disk.key) for disk in self._disks.values()]
        taken += [(disk.number, disk.key) for disk in self._finished]
        if any(number == taken_number or key == taken_key for taken_number, taken_key in taken):
            raise StreamRefused(f"Disk {number} ({key!r}) appears twice in one recovery point")
        if not 0 <= number < DISK_LIMIT:
            raise StreamRefused(f"Disk {number}: disk numbers must be from 0 to {DISK_LIMIT - 1}")
        parent = self._parent_of(number, key, capacity_bytes) if has_parent else None
        table = self._access.open_table(*parent) if parent else None
        with self._naming_faults(f"beginning disk {number}"):
            try:
                self._disks[number] = _DiskBeingWritten(
                    self._folder, number, key, capacity_bytes, cid, parent, table
                )
            except BaseException:
                if table is not None:
                    table.close()
                raise

    def write(self, number: int, data: bytes | memoryview) -> None:
        """Take the next bytes of a disk's stream.

        Raises:
            StreamRefused: the stream is malformed or contradicts itself.
            StoreFull: no space left; leaving the context removes all of the point.
        """
        disk = self._disk(number)
        doing = f"writing disk {number} of recovery point {self.point_id}"
        with self._naming_faults(doing):
            self._unchecked_bytes += len(data)
            if self._unchecked_bytes >= _SPACE_CHECK_BYTES:
                self._access.space.check(self._unchecked_bytes, doing)
                self._unchecked_bytes = 0
            disk.write(memoryview(data))

    def put_digests(self, number: int, first_grain: int, digests: bytes) -> None:
        """Take the digests of a run of grains, 16 bytes each; the others remain the parent's.

        Raises:
            StreamRefused: they are outside the disk.
        """
        disk = self._disk(number)
        with self._naming_faults(f"writing the digests of disk {number}"):
            try:
                disk.table.put(first_grain, digests)
            except ValueError as error:
                raise StreamRefused(f"Disk {number}: {error}") from error

    def parent_digests(self, number: int, first_grain: int, count: int) -> bytes:
        """Return the parent's digests of a run of grains; zeros past its end, or without one."""
        table = self._disk(number).parent_table
        return bytes(count * DIGEST_BYTES) if table is None else table.get(first_grain, count)

    def finish_disk(self, number: int, length_bytes: int, digest_hex: str) -> None:
        """End a disk's stream.

        length_bytes, digest_hex: length and BLAKE3 of the whole stream, as counted by the sender.

        Raises:
            StreamRefused: the stream is truncated, its length or digest differs from the sender's,
                or the grain digests do not match its grains.
        """
        disk = self._disk(number)
        disk.validator.finish()
        if length_bytes != disk.length_bytes or digest_hex != disk.digests.whole():
            raise StreamRefused(
                f"Disk {number} did not arrive as it was sent: {disk.length_bytes} bytes with"
                f" digest {disk.digests.whole()} arrived, {length_bytes} bytes with digest"
                f" {digest_hex} were sent"
            )
        content_digest = _check_grain_digests(disk)
        entry = DiskEntry(
            number=number,
            key=disk.key,
            capacity_bytes=disk.capacity_bytes,
            file=disk.path.name,
            file_bytes=disk.length_bytes,
            digest=disk.digests.whole(),
            range_bytes=disk.digests.range_bytes,
            range_digests=disk.digests.ranges(),
            cid=disk.cid,
            parent=(disk.parent[0].point_id, disk.parent[1].number) if disk.parent else None,
            content_digest=content_digest,
        )
        with self._naming_faults(f"writing disk {number} of recovery point {self.point_id}"):
            os.fsync(disk.fd)
            disk.table.finish(TableOwner(self.point_id, number, entry.digest))
        disk.close()
        del self._disks[number]
        self._finished.append(entry)

    def digest_hex(self, number: int) -> str:
        """Return the BLAKE3 of the stream so far, for a sender in the same process."""
        return self._disk(number).digests.whole()

    def commit(
        self,
        description: dict[str, Any],
        consistency: str,
        owner_core_id: str,
        owner_core_name: str,
        ownership_epoch: int,
        taken_at: datetime | None = None,
    ) -> Manifest:
        """Make the point exist, synced to disk, and return its manifest.

        taken_at: the instant of the consistent view, if it was not known at the beginning.

        Raises:
            StreamRefused: a disk is unfinished, or there is none.
            ParentUnfit: the parent was deleted in the meantime.
            PointExists: another process has added that point.
        """
        if self._is_over or self._has_failed:
            state = "is already closed" if self._is_over else "has failed"
            raise StreamRefused(f"Recovery point {self.point_id} {state}")
        if self._disks or not self._finished:
            unfinished = ", ".join(str(number) for number in self._disks) or "none was sent"
            raise StreamRefused(
                f"Recovery point {self.point_id} is incomplete: unfinished disks: {unfinished}"
            )
        manifest = replace(
            self._draft,
            taken_at=(taken_at or self._draft.taken_at).astimezone(UTC),
            description=description,
            consistency=consistency,
            owner_core_id=owner_core_id,
            owner_core_name=owner_core_name,
            ownership_epoch=ownership_epoch,
            disks=tuple(sorted(self._finished, key=lambda disk: disk.number)),
        ).sealed()
        # Never write what cannot be read back.
        manifest = Manifest.from_bytes(manifest.to_bytes())
        with self._naming_faults(f"finishing recovery point {self.point_id}"):
            write_synced(self._folder / MANIFEST_FILE, manifest.to_bytes())
            sync_folder(self._folder)
            with machine_lock(self._access.machine_folder):
                self._check_parent_is_there()
                put_in_place(self._access, self._folder, manifest)
        self._end()
        forget_older_tables(self._access, manifest)
        log.info(
            "point committed machine=%s point=%s bytes=%d seconds=%.1f",
            manifest.machine_id,
            manifest.point_id,
            manifest.stored_bytes,
            time.monotonic() - self._started,
        )
        return manifest

    def __enter__(self) -> "PointWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._is_over:
            self._end()
            log.info("point dropped point=%s", self.point_id)

    def _end(self) -> None:
        self._is_over = True
        for disk in self._disks.values():
            disk.close()
        self._disks.clear()
        remove_folder(self._folder)
        self._lock.release()

    def _disk(self, number: int) -> _DiskBeingWritten:
        try:
            return self._disks[number]
        except KeyError:
            raise StreamRefused(f"Disk {number} has not begun, or has ended") from None

    def _parent_of(self, number: int, key: str, capacity_bytes: int) -> tuple[Manifest, DiskEntry]:
        disk = self._parent.find_disk_by_key(key) if self._parent else None
        if self._parent is None or disk is None:
            raise StreamRefused(
                f"Disk {number} ({key!r}) is sent as a delta, but the parent point has no such disk"
            )
        if capacity_bytes < disk.capacity_bytes:
            raise StreamRefused(
                f"Disk {number} ({key!r}) has shrunk from {disk.capacity_bytes} to"
                f" {capacity_bytes} bytes; it must be sent whole"
            )
        return self._parent, disk

    def _check_parent_is_there(self) -> None:
        parent_id = self._draft.parent_point_id
        if parent_id is None:
            return
        now = self._access.load_parent()
        if now is None or now.digest != self._draft.parent_digest:
            raise ParentUnfit(
                f"Recovery point {parent_id} was deleted while {self.point_id} was written on it"
            )

    @contextmanager
    def _naming_faults(self, doing: str) -> Iterator[None]:
        """Name the system's errors; after any failure the point must not be committed."""
        try:
            with full_store_named(self._access.root, doing):
                yield
        except BaseException:
            self._has_failed = True
            raise


def put_in_place(access: StoreAccess, folder: Path, manifest: Manifest) -> None:
    """Move a complete point to `points`; the caller holds the machine's lock.

    Raises:
        PointExists: a point with that id exists.
        StoreMissing: the folder is no longer the store that it was at the beginning.
    """
    access.check_identity()
    if access.find_folder(manifest.point_id) is not None:
        raise PointExists(f"Recovery point {manifest.point_id} is already in the store")
    ensure_folder(access.points)
    folder.rename(access.points / manifest.folder_name)
    sync_folder(access.points)


def forget_older_tables(access: StoreAccess, newest: Manifest) -> None:
    """Remove the digest tables of other points: only those of the newest are needed."""
    for path in access.points.glob("*/*.grains"):
        if path.parent.name != newest.folder_name:
            path.unlink(missing_ok=True)


def file_hint(manifest: Manifest, disk: DiskEntry) -> str:
    """Return the name of that disk in the descriptor of a delta, where QEMU looks for it."""
    return f"../{manifest.folder_name}/{disk.file}"


def _check_grain_digests(disk: _DiskBeingWritten) -> str:
    """Reject grain digests that contradict the tables: a later incremental would lose data.

    A grain with a changed digest must be in the stream, and a grain with data must not have the
    digest of zeros. Returns the digest that the file's grains must have when they are inflated.
    """
    content = blake3()
    with FilePool() as pool:
        file = StreamFile(disk.path, pool)
        unseen = set(file.table_numbers)
        for number, now, before in disk.table.slices():
            for part in range(_TABLES_PER_SLICE):
                table_number = number * _TABLES_PER_SLICE + part
                start = part * _TABLE_DIGESTS_BYTES
                table_now = now[start : start + _TABLE_DIGESTS_BYTES]
                table_before = before[start : start + _TABLE_DIGESTS_BYTES]
                sector = file.find_table_sector(table_number)
                if sector is None:
                    if table_now != table_before:
                        raise _digests_lie(disk, table_number * GRAINS_PER_TABLE)
                    continue
                unseen.discard(table_number)
                entries = file.table(sector)
                first_grain = table_number * GRAINS_PER_TABLE
                slot = _find_lie(entries, table_now, table_before)
                if slot is not None:
                    raise _digests_lie(disk, first_grain + slot)
                content.update(_content_entries(entries, table_now, first_grain))
        if unseen:
            raise _digests_lie(disk, min(unseen) * GRAINS_PER_TABLE)
    return content.hexdigest()


def _content_entries(entries: Sequence[int], digests: bytes, first_grain: int) -> bytes:
    return b"".join(
        content_entry(first_grain + slot, digests[slot * DIGEST_BYTES : (slot + 1) * DIGEST_BYTES])
        for slot, sector in enumerate(entries)
        if sector > ENTRY_ZERO
    )


def _find_lie(entries: Sequence[int], now: bytes, before: bytes) -> int | None:
    for slot in range(GRAINS_PER_TABLE):
        start = slot * DIGEST_BYTES
        digest = now[start : start + DIGEST_BYTES]
        entry = entries[slot]
        if entry == ENTRY_ABSENT:
            is_lie = digest != before[start : start + DIGEST_BYTES]
        else:
            is_lie = (digest == ZERO_DIGEST) != (entry == ENTRY_ZERO)
        if is_lie:
            return slot
    return None


def _digests_lie(disk: _DiskBeingWritten, grain: int) -> StreamRefused:
    return StreamRefused(
        f"Disk {disk.number}: the digests do not match the stream, at or near grain {grain}"
    )


def new_draft(
    machine_id: str,
    machine_name: str,
    point_id: str,
    parent: Manifest | None,
    taken_at: datetime,
) -> Manifest:
    """Return the manifest of a point that has only begun."""
    return Manifest(
        point_id=point_id,
        machine_id=machine_id,
        machine_name=machine_name,
        taken_at=taken_at.astimezone(UTC),
        kind=INCREMENTAL if parent else BASE_IMAGE,
        parent_point_id=parent.point_id if parent else None,
        parent_digest=parent.digest if parent else None,
        description={},
        consistency="",
        owner_core_id="",
        owner_core_name="",
        ownership_epoch=0,
        disks=(),
    )
