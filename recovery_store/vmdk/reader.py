"""Open finished VMDK streams and raw images for reading.

`StreamFile` reads exactly what `StreamWriter` writes: markers, tables at the end. Everything read
from the file is checked before it is used, and file names in it are never used.
"""

from __future__ import annotations

import os
import stat
from array import array
from bisect import bisect_left
from collections import OrderedDict
from pathlib import Path
from types import TracebackType

from ..errors import SourceUnreadable, VmdkDamaged
from .deflate import inflate
from .descriptor import NO_PARENT, Descriptor
from .layout import (
    CAPACITY_LIMIT_BYTES,
    COMPRESSED_GRAIN_LIMIT_BYTES,
    DESCRIPTOR_SECTOR,
    DESCRIPTOR_SECTORS,
    END_OF_STREAM,
    ENTRY_ZERO,
    FLAGS_DELTA,
    FLAGS_FULL,
    GRAIN_MARKER,
    GRAIN_SECTORS,
    GRAINS_PER_TABLE,
    MARKER_FOOTER,
    OVERHEAD_SECTORS,
    SECTOR_BYTES,
    TABLE_BYTES,
    TABLE_SECTORS,
    Header,
    metadata_marker,
    table_count,
    table_from_bytes,
)

_TAIL_SECTORS = 3  # footer marker, footer, end of stream
_SMALLEST_BYTES = (OVERHEAD_SECTORS + _TAIL_SECTORS) * SECTOR_BYTES
_GRAIN_LIMIT_SECTORS = GRAIN_SECTORS + 1


class FilePool:
    """Keeps a limited number of files open: a chain may have more than a process may open."""

    def __init__(self, limit: int = 128) -> None:
        self._limit = limit
        self._open: OrderedDict[Path, int] = OrderedDict()

    def fd(self, path: Path) -> int:
        """Return a descriptor that is valid until the next call.

        Raises:
            VmdkDamaged: the file cannot be opened.
        """
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        if len(self._open) >= self._limit:
            os.close(self._open.popitem(last=False)[1])
        try:
            # O_NONBLOCK, or opening a pipe would wait for a writer.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise VmdkDamaged(f"{path} cannot be opened: {error.strerror}") from error
        self._open[path] = fd
        return fd

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def __enter__(self) -> FilePool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


# A grain's slot in the table, its first sector and its end sector; both are ENTRY_ZERO for a grain
# that a delta declares zero. A plain tuple, since there are millions of them.
GrainLocation = tuple[int, int, int]


class StreamFile:
    """One finished stream on disk; tables are read on demand.

    The caller owns the pool and closes it.

    Raises:
        VmdkDamaged: it is missing, truncated, or not a stream of this form.
    """

    def __init__(self, path: Path, pool: FilePool) -> None:
        self.path = path
        self._pool = pool
        try:
            self.length_bytes = os.fstat(pool.fd(path)).st_size
        except OSError as error:
            raise VmdkDamaged(f"{path} cannot be read: {error.strerror}") from error
        if self.length_bytes < _SMALLEST_BYTES or self.length_bytes % SECTOR_BYTES:
            raise self._damaged(f"{self.length_bytes} bytes cannot be the length of a stream")
        self._end_sector = self.length_bytes // SECTOR_BYTES
        header = Header.from_bytes(self._read(0, 1))
        self.is_delta = header.flags == FLAGS_DELTA
        self.capacity_bytes = header.capacity_sectors * SECTOR_BYTES
        expected = Header(header.capacity_sectors, FLAGS_DELTA if self.is_delta else FLAGS_FULL)
        if header != expected or not 0 < self.capacity_bytes <= CAPACITY_LIMIT_BYTES:
            raise self._damaged("its header is not that of a stream")
        self.descriptor = self._read_descriptor(header)
        directory_sector = self._read_footer(expected)
        self.table_numbers = array("I")
        self.table_sectors = array("I")
        self._read_directory(directory_sector)

    def find_table_sector(self, number: int) -> int | None:
        """Return the sector of that grain table, or none if all its grains are absent."""
        position = bisect_left(self.table_numbers, number)
        if position < len(self.table_numbers) and self.table_numbers[position] == number:
            return self.table_sectors[position]
        return None

    def table(self, table_sector: int) -> array[int]:
        """Return the 512 entries of the table at that sector."""
        return table_from_bytes(self._read(table_sector, TABLE_SECTORS))

    def grain_locations(self, table_sector: int) -> list[GrainLocation]:
        """Return the present and the zero grains of a table, last slot first.

        A grain ends where the next one begins, and the last one at the table's marker, so its
        length is known without reading it.
        """
        locations: list[GrainLocation] = []
        end = table_sector - 1
        slot = GRAINS_PER_TABLE
        for sector in reversed(self.table(table_sector)):
            slot -= 1
            if sector > ENTRY_ZERO:
                if not OVERHEAD_SECTORS <= sector < end <= sector + _GRAIN_LIMIT_SECTORS:
                    raise self._damaged(f"the grain table at sector {table_sector} is out of order")
                locations.append((slot, sector, end))
                end = sector
            elif sector == ENTRY_ZERO:
                locations.append((slot, ENTRY_ZERO, ENTRY_ZERO))
        return locations

    def read_grain(self, index: int, sector: int, end_sector: int) -> bytes:
        """Read and inflate the grain at that location.

        Raises:
            VmdkDamaged: another grain is there, or it does not inflate to a grain.
        """
        return self.inflate_grain(self.read_sectors(sector, end_sector - sector), index)

    def inflate_grain(self, data: bytes, index: int) -> bytes:
        """Inflate a grain with its marker, as returned by `read_sectors`."""
        lba, size_bytes = GRAIN_MARKER.unpack_from(data)
        if lba != index * GRAIN_SECTORS or not 0 < size_bytes <= COMPRESSED_GRAIN_LIMIT_BYTES:
            raise self._damaged(f"grain {index} is not where its table says")
        try:
            return inflate(memoryview(data)[GRAIN_MARKER.size : GRAIN_MARKER.size + size_bytes])
        except VmdkDamaged as error:
            raise self._damaged(f"grain {index}: {error}") from error

    def read_sectors(self, sector: int, count: int) -> bytes:
        return self._read(sector, count)

    def read_into(self, offset_bytes: int, target: memoryview) -> None:
        """Fill the target with the file's bytes at that offset.

        Raises:
            VmdkDamaged: the file has been removed or truncated since it was opened.
        """
        try:
            count = os.preadv(self._pool.fd(self.path), [target], offset_bytes)
        except OSError as error:
            raise self._damaged(f"it cannot be read: {error.strerror}") from error
        if count != len(target):
            raise self._damaged("it is shorter than its tables say")

    def send_to(self, fd: int, offset_bytes: int, count_bytes: int) -> int:
        """Have the kernel copy a part of the file to `fd`; return how many bytes it copied.

        Raises:
            VmdkDamaged: the file has been truncated since it was opened.
            OSError: `fd` cannot be written.
        """
        sent_bytes = os.sendfile(fd, self._pool.fd(self.path), offset_bytes, count_bytes)
        if sent_bytes == 0:
            raise self._damaged("it is shorter than its tables say")
        return sent_bytes

    def _read(self, sector: int, count: int) -> bytes:
        wanted = count * SECTOR_BYTES
        try:
            data = os.pread(self._pool.fd(self.path), wanted, sector * SECTOR_BYTES)
        except OSError as error:
            raise self._damaged(f"it cannot be read: {error.strerror}") from error
        if len(data) != wanted:
            raise self._damaged(f"it ends before sector {sector + count}")
        return data

    def _read_descriptor(self, header: Header) -> Descriptor:
        try:
            descriptor = Descriptor.from_bytes(self._read(DESCRIPTOR_SECTOR, DESCRIPTOR_SECTORS))
        except VmdkDamaged as error:
            raise self._damaged(str(error)) from error
        if descriptor.capacity_sectors != header.capacity_sectors:
            raise self._damaged("header and descriptor disagree about its capacity")
        if (descriptor.parent_cid != NO_PARENT) != self.is_delta:
            raise self._damaged("header and descriptor disagree about whether it has a parent")
        return descriptor

    def _read_footer(self, header: Header) -> int:
        tail = self._read(self._end_sector - _TAIL_SECTORS, _TAIL_SECTORS)
        footer = Header.from_bytes(tail[SECTOR_BYTES : 2 * SECTOR_BYTES])
        is_sound = (
            tail[:SECTOR_BYTES] == metadata_marker(MARKER_FOOTER, 1)
            and footer._replace(directory_sector=header.directory_sector) == header
            and tail[2 * SECTOR_BYTES :] == END_OF_STREAM
        )
        directory_sectors = -(-4 * table_count(self.capacity_bytes) // SECTOR_BYTES)
        if not is_sound or (
            footer.directory_sector + directory_sectors + _TAIL_SECTORS != self._end_sector
        ):
            raise self._damaged("its footer is not that of a stream of this length")
        return footer.directory_sector

    def _read_directory(self, directory_sector: int) -> None:
        count = table_count(self.capacity_bytes)
        data = self._read(directory_sector, -(-4 * count // SECTOR_BYTES))
        entries = table_from_bytes(data[: 4 * count])
        previous_end = OVERHEAD_SECTORS
        for number in _nonzero(entries):
            sector = entries[number]
            # A table follows its marker, and the directory's marker follows the last table.
            if not previous_end < sector <= directory_sector - 1 - TABLE_SECTORS:
                raise self._damaged(f"entry {number} of its grain directory is out of order")
            previous_end = sector + TABLE_SECTORS
            self.table_numbers.append(number)
            self.table_sectors.append(sector)

    def _damaged(self, text: str) -> VmdkDamaged:
        return VmdkDamaged(f"{self.path}: {text}")


class RawFile:
    """A raw image or device: the whole disk as bytes.

    The length is rounded up to whole sectors; missing bytes read as zeros.

    Raises:
        SourceUnreadable: it is missing, empty, unreadable, or neither a file nor a device.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # O_NONBLOCK, or opening a pipe would wait for a writer. Files and disks ignore it.
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise SourceUnreadable(f"{path} cannot be opened: {error.strerror}") from error
        try:
            self.length_bytes = self._measure()
        except BaseException:
            os.close(self.fd)
            raise
        self.capacity_bytes = -(-self.length_bytes // SECTOR_BYTES) * SECTOR_BYTES

    def _measure(self) -> int:
        mode = os.fstat(self.fd).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise SourceUnreadable(f"{self.path} is not a disk image: neither a file nor a disk")
        length_bytes = os.lseek(self.fd, 0, os.SEEK_END)
        if not 0 < length_bytes <= CAPACITY_LIMIT_BYTES:
            raise SourceUnreadable(
                f"{self.path} is {length_bytes} bytes long, which cannot be a disk"
            )
        return length_bytes

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> RawFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _nonzero(entries: array[int]) -> list[int]:
    """Return the indices of the entries that are not zero; fast over long runs of zeros."""
    step = GRAINS_PER_TABLE
    found: list[int] = []
    empty = bytes(4 * step)
    data = memoryview(entries).cast("B")
    for first in range(0, len(entries), step):
        if data[4 * first : 4 * (first + step)] == empty:
            continue
        found += [i for i in range(first, min(first + step, len(entries))) if entries[i]]
    return found


assert TABLE_BYTES == TABLE_SECTORS * SECTOR_BYTES
