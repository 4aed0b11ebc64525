"""Check a VMDK stream while it is stored, and reject one that contradicts itself.

A stream is rejected at the first error: a wrong header, descriptor, marker, table, directory or
footer, grains out of order or not where their table says, a truncated stream, or data after its
end. Grains are not inflated: digests protect their content.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from ..errors import StreamRefused, VmdkDamaged
from .descriptor import NO_PARENT, Descriptor
from .layout import (
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
    MARKER_END_OF_STREAM,
    MARKER_FOOTER,
    MARKER_GRAIN_DIRECTORY,
    MARKER_GRAIN_TABLE,
    METADATA_MARKER,
    OVERHEAD_SECTORS,
    SECTOR_BYTES,
    TABLE_BYTES,
    TABLE_SECTORS,
    Header,
    grain_count,
    table_count,
    table_from_bytes,
)

_HEAD_BYTES = OVERHEAD_SECTORS * SECTOR_BYTES
_HEAD_PADDING = bytes(_HEAD_BYTES - (DESCRIPTOR_SECTOR + DESCRIPTOR_SECTORS) * SECTOR_BYTES)
_MARKER_PADDING = bytes(496)
_EMPTY_TABLE = bytes(TABLE_BYTES)
_NO_TABLE = -1


class StreamValidator:
    """Checks one stream: `feed` every chunk as it arrives, then `finish`.

    Memory use is independent of the content, and grows by only a few bytes per 32 MiB of disk.
    """

    def __init__(
        self,
        capacity_bytes: int,
        cid: str,
        parent_cid: str | None = None,
        parent_file_hint: str | None = None,
    ) -> None:
        self.length_bytes = 0
        self._cid = cid
        self._parent_cid = NO_PARENT if parent_cid is None else parent_cid
        self._parent_file_hint = parent_file_hint
        self._is_delta = parent_cid is not None
        self._header = Header(
            capacity_sectors=capacity_bytes // SECTOR_BYTES,
            flags=FLAGS_DELTA if self._is_delta else FLAGS_FULL,
        )
        self._grain_limit = grain_count(capacity_bytes)
        self._directory_bytes = 4 * table_count(capacity_bytes)
        self._sector = 0
        self._stash = bytearray()
        self._skip_bytes = 0
        self._take: Callable[[memoryview], None] = self._take_head
        self._wanted_bytes = _HEAD_BYTES
        self._next_grain = 0
        self._table = array("I", _EMPTY_TABLE)
        self._table_number = _NO_TABLE
        # The position of each table, and its number if a grain has shown it.
        self._table_sectors = array("I")
        self._table_numbers = array("q")
        self._directory_sector = 0
        self._is_complete = False

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Check the next bytes of the stream.

        Raises:
            StreamRefused: the stream contradicts itself; the text says where and how.
        """
        view = memoryview(data)
        self.length_bytes += len(view)
        position = 0
        while position < len(view):
            left = len(view) - position
            if self._skip_bytes:
                step = min(self._skip_bytes, left)
                self._skip_bytes -= step
                position += step
            elif not self._stash and left >= self._wanted_bytes:
                end = position + self._wanted_bytes
                self._take(view[position:end])
                position = end
            else:
                step = min(self._wanted_bytes - len(self._stash), left)
                self._stash += view[position : position + step]
                position += step
                if len(self._stash) == self._wanted_bytes:
                    piece = bytes(self._stash)
                    self._stash.clear()
                    self._take(memoryview(piece))

    def finish(self) -> None:
        """Check that the stream is complete.

        Raises:
            StreamRefused: the end of the stream has not arrived.
        """
        if not self._is_complete:
            raise StreamRefused(f"The stream is truncated: it ends after {self.length_bytes} bytes")

    def _expect(self, take: Callable[[memoryview], None], wanted_bytes: int) -> None:
        self._take = take
        self._wanted_bytes = wanted_bytes

    def _refuse(self, text: str) -> StreamRefused:
        return StreamRefused(f"The stream is wrong at byte {self._sector * SECTOR_BYTES}: {text}")

    def _take_head(self, head: memoryview) -> None:
        self._check_header(head[:SECTOR_BYTES], self._header, "header")
        start = DESCRIPTOR_SECTOR * SECTOR_BYTES
        end = start + DESCRIPTOR_SECTORS * SECTOR_BYTES
        try:
            descriptor = Descriptor.from_bytes(bytes(head[start:end]))
        except VmdkDamaged as error:
            raise self._refuse(str(error)) from error
        for name, expected, got in (
            ("capacity", self._header.capacity_sectors, descriptor.capacity_sectors),
            ("CID", self._cid, descriptor.cid),
            ("parentCID", self._parent_cid, descriptor.parent_cid),
            ("parentFileNameHint", self._parent_file_hint, descriptor.parent_file_hint),
        ):
            if got != expected:
                raise self._refuse(f"{name} in the descriptor is {got!r}, expected {expected!r}")
        if head[end:] != _HEAD_PADDING:
            raise self._refuse("there is data between the descriptor and the first grain")
        self._sector = OVERHEAD_SECTORS
        self._expect(self._take_marker, SECTOR_BYTES)

    def _check_header(self, sector: memoryview, expected: Header, what: str) -> None:
        if sector == expected.to_bytes():
            return
        got = Header.from_bytes(sector)
        for name in Header._fields:
            if getattr(got, name) != getattr(expected, name):
                raise self._refuse(
                    f"{name} in the {what} is {getattr(got, name)!r},"
                    f" expected {getattr(expected, name)!r}"
                )

    def _take_marker(self, sector: memoryview) -> None:
        value, size_bytes = GRAIN_MARKER.unpack_from(sector)
        if size_bytes:
            self._take_grain(value, size_bytes, sector[GRAIN_MARKER.size :])
        else:
            self._take_metadata_marker(sector)

    def _take_grain(self, lba: int, size_bytes: int, start: memoryview) -> None:
        grain, remainder = divmod(lba, GRAIN_SECTORS)
        if remainder or not self._next_grain <= grain < self._grain_limit:
            raise self._refuse(
                f"a grain for sector {lba}, expected a multiple of {GRAIN_SECTORS} from"
                f" {self._next_grain * GRAIN_SECTORS} and inside the disk"
            )
        if size_bytes > COMPRESSED_GRAIN_LIMIT_BYTES:
            raise self._refuse(
                f"a grain of {size_bytes} bytes, allowed are {COMPRESSED_GRAIN_LIMIT_BYTES}"
            )
        # RFC 1950: deflate, and the two bytes are a multiple of 31.
        if start[0] & 0x0F != 8 or (start[0] << 8 | start[1]) % 31:
            raise self._refuse(f"the grain for sector {lba} is not a zlib stream")
        number, slot = divmod(grain, GRAINS_PER_TABLE)
        if number != self._table_number:
            if self._table_number != _NO_TABLE:
                raise self._refuse(
                    f"a grain of table {number} comes before table {self._table_number}"
                )
            self._table_number = number
        self._table[slot] = self._sector
        self._next_grain = grain + 1
        sectors = -(-(GRAIN_MARKER.size + size_bytes) // SECTOR_BYTES)
        self._skip_bytes = (sectors - 1) * SECTOR_BYTES
        self._sector += sectors

    def _take_metadata_marker(self, sector: memoryview) -> None:
        following_sectors, _, kind, pad = METADATA_MARKER.unpack(sector)
        expected = {
            MARKER_GRAIN_TABLE: TABLE_SECTORS,
            MARKER_GRAIN_DIRECTORY: -(-self._directory_bytes // SECTOR_BYTES),
            MARKER_FOOTER: 1,
            MARKER_END_OF_STREAM: 0,
        }.get(kind)
        if expected is None or following_sectors != expected or pad != _MARKER_PADDING:
            raise self._refuse(
                f"a marker of type {kind} for {following_sectors} sectors is not valid"
            )
        if kind == MARKER_GRAIN_TABLE and not self._directory_sector:
            self._expect(self._take_table, TABLE_BYTES)
        elif kind == MARKER_GRAIN_DIRECTORY and not self._directory_sector:
            if self._table_number != _NO_TABLE:
                raise self._refuse(f"table {self._table_number} is missing after its grains")
            self._directory_sector = self._sector + 1
            self._expect(self._take_directory, expected * SECTOR_BYTES)
        else:
            raise self._refuse(f"a marker of type {kind} does not belong here")
        self._sector += 1

    def _take_table(self, data: memoryview) -> None:
        entries = table_from_bytes(data)
        if entries != self._table:
            self._check_entries(entries)
        elif self._table_number == _NO_TABLE:
            raise self._refuse("a grain table without any grain")
        if self._table_number != _NO_TABLE:
            self._table = array("I", _EMPTY_TABLE)
        self._table_sectors.append(self._sector)
        self._table_numbers.append(self._table_number)
        self._table_number = _NO_TABLE
        self._sector += TABLE_SECTORS
        self._expect(self._take_marker, SECTOR_BYTES)

    def _check_entries(self, entries: array[int]) -> None:
        for slot in range(GRAINS_PER_TABLE):
            got, expected = entries[slot], self._table[slot]
            is_zero_grain = self._is_delta and got == ENTRY_ZERO and not expected
            if got != expected and not is_zero_grain:
                raise self._refuse(
                    f"entry {slot} of a grain table is sector {got}, but the grain is at {expected}"
                )

    def _take_directory(self, data: memoryview) -> None:
        entries = table_from_bytes(data[: self._directory_bytes])
        if data[self._directory_bytes :] != bytes(len(data) - self._directory_bytes):
            raise self._refuse("the grain directory is longer than the disk")
        seen = 0
        for number, sector in enumerate(entries):
            if not sector:
                continue
            if seen == len(self._table_sectors) or sector != self._table_sectors[seen]:
                raise self._refuse(
                    f"entry {number} of the grain directory says sector {sector}, where no table is"
                )
            if self._table_numbers[seen] not in (_NO_TABLE, number):
                raise self._refuse(
                    f"entry {number} of the grain directory names table {self._table_numbers[seen]}"
                )
            seen += 1
        if seen != len(self._table_sectors):
            raise self._refuse(
                f"the grain directory names {seen} tables of {len(self._table_sectors)}"
            )
        self._sector += len(data) // SECTOR_BYTES
        self._expect(self._take_footer_marker, SECTOR_BYTES)

    def _take_footer_marker(self, sector: memoryview) -> None:
        following_sectors, size_bytes, kind, pad = METADATA_MARKER.unpack(sector)
        if (following_sectors, size_bytes, kind) != (1, 0, MARKER_FOOTER) or pad != _MARKER_PADDING:
            raise self._refuse(f"a marker of type {kind}, expected the footer's")
        self._sector += 1
        self._expect(self._take_footer, SECTOR_BYTES)

    def _take_footer(self, sector: memoryview) -> None:
        expected = self._header._replace(directory_sector=self._directory_sector)
        self._check_header(sector, expected, "footer")
        self._sector += 1
        self._expect(self._take_end, SECTOR_BYTES)

    def _take_end(self, sector: memoryview) -> None:
        if sector != END_OF_STREAM:
            raise self._refuse("the end-of-stream marker is not all zero")
        self._sector += 1
        self._is_complete = True
        self._expect(self._take_surplus, 1)

    def _take_surplus(self, _: memoryview) -> None:
        raise self._refuse("there is data after the end of the stream")
