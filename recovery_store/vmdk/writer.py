"""Write one streamOptimized VMDK from front to back, without seeking.

The layout follows the technical note: header, descriptor, grains with a table after every 512,
directory, footer, and the end-of-stream marker as the last sector.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from ..errors import VmdkLimit
from .descriptor import NO_PARENT, Descriptor
from .layout import (
    CAPACITY_LIMIT_BYTES,
    COMPRESSED_GRAIN_LIMIT_BYTES,
    END_OF_STREAM,
    ENTRY_ZERO,
    FILE_LIMIT_SECTORS,
    FLAGS_DELTA,
    FLAGS_FULL,
    GRAIN_MARKER,
    GRAIN_SECTORS,
    GRAINS_PER_TABLE,
    MARKER_FOOTER,
    MARKER_GRAIN_DIRECTORY,
    MARKER_GRAIN_TABLE,
    OVERHEAD_SECTORS,
    SECTOR_BYTES,
    TABLE_SECTORS,
    Header,
    grain_count,
    metadata_marker,
    padding_bytes,
    table_count,
    table_to_bytes,
)

_CHUNK_BYTES = 1 << 20
_PADDING = [bytes(count) for count in range(SECTOR_BYTES)]
_EMPTY_TABLE = bytes(4 * GRAINS_PER_TABLE)


def stream_head(header: Header, descriptor: Descriptor) -> bytes:
    """Return everything that precedes the first grain."""
    head = header.to_bytes() + descriptor.to_bytes()
    return head.ljust(OVERHEAD_SECTORS * SECTOR_BYTES, b"\0")


def stream_tail(header: Header, directory: array[int], start_sector: int) -> bytes:
    """Return everything that follows the last grain table, which ends before `start_sector`."""
    data = table_to_bytes(directory)
    data += bytes(padding_bytes(len(data)))
    footer = header._replace(directory_sector=start_sector + 1)
    return b"".join(
        (
            metadata_marker(MARKER_GRAIN_DIRECTORY, len(data) // SECTOR_BYTES),
            data,
            metadata_marker(MARKER_FOOTER, 1),
            footer.to_bytes(),
            END_OF_STREAM,
        )
    )


def tail_sectors(capacity_bytes: int) -> int:
    """Return the length of `stream_tail` for a disk of that capacity."""
    return 1 + -(-table_count(capacity_bytes) * 4 // SECTOR_BYTES) + 3


class StreamWriter:
    """Turns compressed grains, given in ascending order, into a VMDK stream.

    With `parent_cid` the stream is a delta: omitted grains are the parent's, and `zero_grain` marks
    those that have become zero. Without it, omitted grains are zero.

    write: called with chunks of about 1 MiB; its errors pass through.
    capacity_bytes: what the guest sees, a multiple of 512.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        capacity_bytes: int,
        cid: str,
        parent_cid: str | None = None,
        parent_file_hint: str | None = None,
        extent_name: str = "disk.vmdk",
    ) -> None:
        check_capacity(capacity_bytes)
        self.capacity_bytes = capacity_bytes
        self.is_delta = parent_cid is not None
        self.length_bytes = 0
        self._write = write
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._header = Header(
            capacity_sectors=capacity_bytes // SECTOR_BYTES,
            flags=FLAGS_DELTA if self.is_delta else FLAGS_FULL,
        )
        self._sector = 0
        self._grain_limit = grain_count(capacity_bytes)
        self._next_grain = 0
        self._table = array("I", _EMPTY_TABLE)
        self._table_number = -1
        self._directory = array("I", bytes(4 * table_count(capacity_bytes)))
        self._is_finished = False
        descriptor = Descriptor(
            capacity_sectors=capacity_bytes // SECTOR_BYTES,
            cid=cid,
            parent_cid=NO_PARENT if parent_cid is None else parent_cid,
            parent_file_hint=parent_file_hint,
            extent_name=extent_name,
        )
        self._put(stream_head(self._header, descriptor))

    def grain(self, index: int, compressed: bytes) -> None:
        """Add the grain with that index on the disk.

        Raises:
            VmdkLimit: out of order, outside the disk, too long, or the file would exceed 2 TiB.
        """
        length = len(compressed)
        if not 0 < length <= COMPRESSED_GRAIN_LIMIT_BYTES:
            raise VmdkLimit(
                f"Grain {index} is {length} bytes long, allowed are 1 to"
                f" {COMPRESSED_GRAIN_LIMIT_BYTES}"
            )
        self._enter(index, self._sector_for_grain)
        self._put(
            GRAIN_MARKER.pack(index * GRAIN_SECTORS, length),
            compressed,
            _PADDING[-(GRAIN_MARKER.size + length) % SECTOR_BYTES],
        )

    def zero_grain(self, index: int) -> None:
        """Mark a grain of a delta as zero, whatever the parent has there.

        Raises:
            VmdkLimit: out of order, outside the disk, or the stream is not a delta.
        """
        if not self.is_delta:
            raise VmdkLimit(f"Grain {index}: a disk without a parent omits zero grains")
        self._enter(index, self._entry_for_zero)

    def finish(self) -> None:
        """Write tables, footer and end of stream; the last call."""
        self._end_table()
        self._put(stream_tail(self._header, self._directory, self._sector))
        self._flush()
        self._is_finished = True

    def _sector_for_grain(self) -> int:
        return self._sector

    def _entry_for_zero(self) -> int:
        return ENTRY_ZERO

    def _enter(self, index: int, entry: Callable[[], int]) -> None:
        if self._is_finished:
            raise VmdkLimit("The stream is finished")
        if not self._next_grain <= index < self._grain_limit:
            raise VmdkLimit(
                f"Grain {index} is out of order: the next must be from {self._next_grain} to"
                f" {self._grain_limit - 1}"
            )
        self._next_grain = index + 1
        number = index // GRAINS_PER_TABLE
        if number != self._table_number:
            self._end_table()
            self._table_number = number
        self._table[index % GRAINS_PER_TABLE] = entry()

    def _end_table(self) -> None:
        if self._table_number < 0:
            return
        self._put(metadata_marker(MARKER_GRAIN_TABLE, TABLE_SECTORS))
        self._directory[self._table_number] = self._sector
        self._put(table_to_bytes(self._table))
        self._table = array("I", _EMPTY_TABLE)
        self._table_number = -1

    def _put(self, *parts: bytes) -> None:
        """Add whole sectors; the parts are joined only once, in the chunk."""
        length = sum(map(len, parts))
        sector = self._sector + length // SECTOR_BYTES
        if sector > FILE_LIMIT_SECTORS:
            raise VmdkLimit(
                "The compressed disk exceeds 2 TiB, the most that one VMDK stream can hold"
            )
        self._sector = sector
        self._parts.extend(parts)
        self._parts_bytes += length
        if self._parts_bytes >= _CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        self._parts_bytes = 0
        self.length_bytes += len(data)
        self._write(data)


def check_capacity(capacity_bytes: int) -> None:
    """Check that a VMDK can have that disk size.

    Raises:
        VmdkLimit: zero, not a multiple of 512, or above 64 TiB.
    """
    if not 0 < capacity_bytes <= CAPACITY_LIMIT_BYTES or capacity_bytes % SECTOR_BYTES:
        raise VmdkLimit(
            f"A disk cannot have {capacity_bytes} bytes: expected a multiple of {SECTOR_BYTES},"
            f" above zero and at most {CAPACITY_LIMIT_BYTES}"
        )
