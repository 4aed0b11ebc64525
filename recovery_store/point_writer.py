"""Write one recovery point: disks as they arrive, the manifest last, then all of it in one rename.

Until `commit` returns the point does not exist. A process killed at any moment leaves a folder
under `unfinished`, which the next writer of that point or `clean` removes.
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
    """What the parent point holds of a disk, as the agent is told."""

    key: str
    number: int
    cid: str
    file_hint: str
    capacity_bytes: int


@dataclass(frozen=True)
class PointPlace:
    """What a writer needs to know of the store: folders, and how to get a parent's digests."""

    root: Path
    machine_folder: Path
    points: Path
    unfinished: Path
    space: Space
    open_table: Callable[[Manifest, DiskEntry], GrainTable]
    find_folder: Callable[[str], Path | None]
    load_parent: Callable[[], Manifest | None]


class RangeDigests:
    """Digests a file while it is written: the whole and every range."""

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
    """One disk's stream on its way to the file."""

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
            # Linux starts to write what is dirty there, so that the end does not wait for it all.
            place, count = self._written_back_bytes, self.length_bytes - self._written_back_bytes
            os.posix_fadvise(self.fd, place, count, os.POSIX_FADV_DONTNEED)
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
    """The one way into the store for a new point; made by `Store.begin_point`.

    Use it as a context manager: leaving without `commit` removes what was written.
    Not for several threads.
    """

    def __init__(
        self,
        place: PointPlace,
        draft: Manifest,
        parent: Manifest | None,
    ) -> None:
        self._place: Final = place
        self._draft = draft
        self._parent = parent
        self._disks: dict[int, _DiskBeingWritten] = {}
        self._finished: list[DiskEntry] = []
        self._unchecked_bytes = 0
        self._is_over = False
        self._has_failed = False
        self._started = time.monotonic()
        self._folder = place.unfinished / draft.point_id
        ensure_folder(place.unfinished)
        self._lock = WriterLock(place.unfinished, draft.point_id, draft.parent_point_id)
        try:
            if place.find_folder(draft.point_id) is not None:
                raise PointExists(
                    f"Recovery point {draft.point_id} is in the store already; take a new id"
                )
            remove_folder(self._folder)
            with self._naming_faults("beginning a recovery point"):
                place.space.check(0, "beginning a recovery point")
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
        """Return what the parent point holds; nothing for a base image."""
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

        has_parent: the stream is a delta on the disk of the same key in the parent point.

        Raises:
            StreamRefused: a number or key twice, or a delta on a disk that cannot be its parent.
            VmdkLimit: a capacity that no VMDK can have.
        """
        check_capacity(capacity_bytes)
        taken = [(disk.number, disk.key) for disk in self._disks.values()]
        taken += [(disk.number, disk.key) for disk in self._finished]
        if any(number == taken_number or key == taken_key for taken_number, taken_key in taken):
            raise StreamRefused(f"Disk {number} ({key!r}) comes twice in one recovery point")
        if not 0 <= number < DISK_LIMIT:
            raise StreamRefused(f"Disk {number}: a disk's number is from 0 to {DISK_LIMIT - 1}")
        parent = self._parent_of(number, key, capacity_bytes) if has_parent else None
        table = self._place.open_table(*parent) if parent else None
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
            StreamRefused: the stream lies.
            StoreFull: no space; leave the context, nothing of the point stays.
        """
        disk = self._disk(number)
        doing = f"writing disk {number} of recovery point {self.point_id}"
        with self._naming_faults(doing):
            self._unchecked_bytes += len(data)
            if self._unchecked_bytes >= _SPACE_CHECK_BYTES:
                self._place.space.check(self._unchecked_bytes, doing)
                self._unchecked_bytes = 0
            disk.write(memoryview(data))

    def put_digests(self, number: int, first_grain: int, digests: bytes) -> None:
        """Take the digests of a run of grains, 16 bytes each; those not put stay the parent's.

        Raises:
            StreamRefused: they lie outside the disk.
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

        length_bytes, digest_hex: the sender's length and BLAKE3 of the whole stream.

        Raises:
            StreamRefused: the stream is cut, its length or digest differ from what arrived, or
                the grain digests do not fit its grains.
        """
        disk = self._disk(number)
        disk.validator.finish()
        if length_bytes != disk.length_bytes or digest_hex != disk.digests.whole():
            raise StreamRefused(
                f"Disk {number} differs from what its sender says: {disk.length_bytes} bytes with"
                f" digest {disk.digests.whole()} arrived, {length_bytes} bytes with digest"
                f" {digest_hex} were sent"
            )
        _check_grain_digests(disk)
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
        )
        with self._naming_faults(f"writing disk {number} of recovery point {self.point_id}"):
            os.fsync(disk.fd)
            disk.table.finish(TableOwner(self.point_id, number, entry.digest))
        disk.close()
        del self._disks[number]
        self._finished.append(entry)

    def digest_hex(self, number: int) -> str:
        """Return the BLAKE3 of what has arrived of a disk, for a sender in the same process."""
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
        """Make the point exist, whole and on disk, and return its manifest.

        taken_at: the instant of the consistent view, where it became known only meanwhile.

        Raises:
            StreamRefused: a disk is unfinished, or there is none.
            ParentUnfit: the parent has gone meanwhile.
            PointExists: somebody else has put that point there.
        """
        if self._is_over or self._has_failed:
            state = "is closed already" if self._is_over else "has failed before"
            raise StreamRefused(f"Recovery point {self.point_id} {state}")
        if self._disks or not self._finished:
            unfinished = ", ".join(str(number) for number in self._disks) or "none has come"
            raise StreamRefused(
                f"Recovery point {self.point_id} is not whole: unfinished disks: {unfinished}"
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
        # What cannot be read back must not be written.
        manifest = Manifest.from_bytes(manifest.to_bytes())
        with self._naming_faults(f"finishing recovery point {self.point_id}"):
            write_synced(self._folder / MANIFEST_FILE, manifest.to_bytes())
            sync_folder(self._folder)
            with machine_lock(self._place.machine_folder):
                self._check_parent_is_there()
                put_in_place(self._place, self._folder, manifest)
        self._end()
        forget_older_tables(self._place, manifest)
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
                f"Disk {number} ({key!r}) comes as a delta, but the parent point holds no such disk"
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
        now = self._place.load_parent()
        if now is None or now.digest != self._draft.parent_digest:
            raise ParentUnfit(
                f"Recovery point {parent_id} has gone while its child {self.point_id} was written"
            )

    @contextmanager
    def _naming_faults(self, doing: str) -> Iterator[None]:
        """Name the system's faults; whatever failed once, the point is not to be committed."""
        try:
            with full_store_named(self._place.root, doing):
                yield
        except BaseException:
            self._has_failed = True
            raise


def put_in_place(place: PointPlace, folder: Path, manifest: Manifest) -> None:
    """Rename a whole folder to where points are; the caller holds the machine's lock.

    Raises:
        PointExists: a point of that id is there.
    """
    if place.find_folder(manifest.point_id) is not None:
        raise PointExists(f"Recovery point {manifest.point_id} is in the store already")
    ensure_folder(place.points)
    folder.rename(place.points / manifest.folder_name)
    sync_folder(place.points)


def forget_older_tables(place: PointPlace, newest: Manifest) -> None:
    """Remove the digest tables of other points: only the newest one's are needed."""
    for path in place.points.glob("*/*.grains"):
        if path.parent.name != newest.folder_name:
            path.unlink(missing_ok=True)


def file_hint(manifest: Manifest, disk: DiskEntry) -> str:
    """Return the name by which a delta in a sibling folder names that disk, for QEMU's sake."""
    return f"../{manifest.folder_name}/{disk.file}"


def _check_grain_digests(disk: _DiskBeingWritten) -> None:
    """Refuse grain digests that contradict the grains: a later incremental would lose data.

    A grain whose digest changed must be in the stream; one in the stream must not count as zero.
    """
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
                slot = _find_lie(file.table(sector), table_now, table_before)
                if slot is not None:
                    raise _digests_lie(disk, table_number * GRAINS_PER_TABLE + slot)
        if unseen:
            raise _digests_lie(disk, min(unseen) * GRAINS_PER_TABLE)


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
        f"Disk {disk.number}: the digests sent do not fit the stream, at or near grain {grain}"
    )


def new_draft(
    machine_id: str,
    machine_name: str,
    point_id: str,
    parent: Manifest | None,
    taken_at: datetime,
) -> Manifest:
    """Return the manifest of a point of which only the beginning is known."""
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
