"""The streamOptimized VMDK on disk: structures, magic numbers, flags and limits.

Section names refer to VMware's technical note "Virtual Disk Format 5.0" (EN-000777-00). All
integers are little endian and packed, and all positions are in sectors. There is no logic here
beyond packing and unpacking.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import NamedTuple, NewType

Sectors = NewType("Sectors", int)
Bytes = NewType("Bytes", int)

SECTOR_BYTES = 512
GRAIN_SECTORS = 128
GRAIN_BYTES = GRAIN_SECTORS * SECTOR_BYTES
GRAINS_PER_TABLE = 512
TABLE_BYTES = GRAINS_PER_TABLE * 4
TABLE_SECTORS = TABLE_BYTES // SECTOR_BYTES
# One grain table describes this much of the disk.
TABLE_SPAN_BYTES = GRAINS_PER_TABLE * GRAIN_BYTES

# "Hosted Sparse Extent Header": the first sector of the file, and again as the footer.
MAGIC = 0x564D444B  # "KDMV" in the file
VERSION = 3  # ESXi rejects version 1
FLAG_NEWLINE_TEST = 1 << 0
FLAG_REDUNDANT_TABLE = 1 << 1
FLAG_ZERO_GRAIN = 1 << 2  # a table entry of 1 means "reads as zero", and hides the parent
FLAG_COMPRESSED = 1 << 16
FLAG_MARKERS = 1 << 17
FLAGS_FULL = FLAG_NEWLINE_TEST | FLAG_COMPRESSED | FLAG_MARKERS
FLAGS_DELTA = FLAGS_FULL | FLAG_ZERO_GRAIN
GD_AT_END = 0xFFFFFFFFFFFFFFFF  # gdOffset in the header: "the footer says where"
NEWLINE_TEST = b"\n \r\n"
COMPRESSION_DEFLATE = 1

DESCRIPTOR_SECTOR = 1
DESCRIPTOR_SECTORS = 20  # as much as QEMU reads
OVERHEAD_SECTORS = 128

# magic, version, flags, capacity, grainSize, descriptorOffset, descriptorSize, numGTEsPerGT,
# rgdOffset, gdOffset, overHead, uncleanShutdown, newline test, compressAlgorithm, pad
_HEADER = struct.Struct("<IIIQQQQIQQQB4sH433s")
assert _HEADER.size == SECTOR_BYTES
_HEADER_PAD = bytes(433)

# "Markers": value, size. If the size is 0, it is a metadata marker, which continues: type, pad;
# value = sectors that follow it. A grain marker is 12 bytes, directly followed by its data:
# value = first sector of the grain on the disk (LBA), size = bytes of compressed data.
GRAIN_MARKER = struct.Struct("<QI")
assert GRAIN_MARKER.size == 12
METADATA_MARKER = struct.Struct("<QII496s")
assert METADATA_MARKER.size == SECTOR_BYTES
_MARKER_PAD = bytes(496)
MARKER_END_OF_STREAM = 0
MARKER_GRAIN_TABLE = 1
MARKER_GRAIN_DIRECTORY = 2
MARKER_FOOTER = 3

# "Grain Table" entries.
ENTRY_ABSENT = 0
ENTRY_ZERO = 1
END_OF_STREAM = bytes(SECTOR_BYTES)

# open-vmdk's reader buffers one grain and one sector, of which the marker takes 12 bytes.
COMPRESSED_GRAIN_LIMIT_BYTES = (GRAIN_SECTORS + 1) * SECTOR_BYTES - GRAIN_MARKER.size
# Table entries are 32-bit sector numbers.
FILE_LIMIT_SECTORS = 0xFFFFFFFF
# The largest disk that vSphere supports has 62 TB.
CAPACITY_LIMIT_BYTES = 64 << 40


class Header(NamedTuple):
    """The sparse extent header; only the first three fields vary between streams.

    capacity_sectors: what the guest sees.
    flags: FLAGS_FULL or FLAGS_DELTA.
    directory_sector: position of the grain directory; GD_AT_END in the header of a stream.
    """

    capacity_sectors: int
    flags: int = FLAGS_FULL
    directory_sector: int = GD_AT_END
    version: int = VERSION
    grain_sectors: int = GRAIN_SECTORS
    descriptor_sector: int = DESCRIPTOR_SECTOR
    descriptor_sectors: int = DESCRIPTOR_SECTORS
    entries_per_table: int = GRAINS_PER_TABLE
    redundant_directory_sector: int = 0
    overhead_sectors: int = OVERHEAD_SECTORS
    unclean_shutdown: int = 0
    newline_test: bytes = NEWLINE_TEST
    compression: int = COMPRESSION_DEFLATE
    magic: int = MAGIC
    pad: bytes = _HEADER_PAD

    def to_bytes(self) -> bytes:
        return _HEADER.pack(
            self.magic,
            self.version,
            self.flags,
            self.capacity_sectors,
            self.grain_sectors,
            self.descriptor_sector,
            self.descriptor_sectors,
            self.entries_per_table,
            self.redundant_directory_sector,
            self.directory_sector,
            self.overhead_sectors,
            self.unclean_shutdown,
            self.newline_test,
            self.compression,
            self.pad,
        )

    @classmethod
    def from_bytes(cls, sector: bytes | memoryview) -> Header:
        """Unpack one sector without checking it."""
        (
            magic,
            version,
            flags,
            capacity_sectors,
            grain_sectors,
            descriptor_sector,
            descriptor_sectors,
            entries_per_table,
            redundant_directory_sector,
            directory_sector,
            overhead_sectors,
            unclean_shutdown,
            newline_test,
            compression,
            pad,
        ) = _HEADER.unpack(sector)
        return cls(
            magic=magic,
            version=version,
            flags=flags,
            capacity_sectors=capacity_sectors,
            grain_sectors=grain_sectors,
            descriptor_sector=descriptor_sector,
            descriptor_sectors=descriptor_sectors,
            entries_per_table=entries_per_table,
            redundant_directory_sector=redundant_directory_sector,
            directory_sector=directory_sector,
            overhead_sectors=overhead_sectors,
            unclean_shutdown=unclean_shutdown,
            newline_test=newline_test,
            compression=compression,
            pad=pad,
        )


def metadata_marker(kind: int, following_sectors: int) -> bytes:
    """Return the sector that announces a grain table, a directory or the footer."""
    return METADATA_MARKER.pack(following_sectors, 0, kind, _MARKER_PAD)


def table_to_bytes(entries: array[int]) -> bytes:
    """Return 32-bit entries as they are stored in the file."""
    if sys.byteorder == "big":
        entries = entries[:]
        entries.byteswap()
    return entries.tobytes()


def table_from_bytes(data: bytes | memoryview) -> array[int]:
    """Return the 32-bit entries stored in `data`."""
    entries = array("I")
    entries.frombytes(data)
    if sys.byteorder == "big":
        entries.byteswap()
    return entries


def grain_count(capacity_bytes: int) -> int:
    return -(-capacity_bytes // GRAIN_BYTES)


def table_count(capacity_bytes: int) -> int:
    return -(-capacity_bytes // TABLE_SPAN_BYTES)


def padding_bytes(length_bytes: int) -> int:
    """Return how many bytes are missing to fill the last sector."""
    return -length_bytes % SECTOR_BYTES


assert array("I").itemsize == 4
