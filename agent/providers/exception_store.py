"""Read from a view's copy-on-write space which chunks of the disk have been written since.

The layout is that of the device mapper's persistent exception store; numbers are little endian:

    chunk 0                 header: u32 magic, valid, version, chunk size in sectors
    chunk 1 + i × (n + 1)   area i: n = chunk bytes / 16 entries of u64 old chunk, new chunk
    all others              the old data

A new chunk of 0 ends the list. The kernel writes an entry before it lets the write to the disk
continue, so the list is complete while nothing is being written to the disk.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from agent.errors import ViewInvalid
from agent.protocol import GRAIN_BYTES, grain_count
from recovery_store.vmdk.imaging import join_runs

_HEADER = struct.Struct("<4I")
_ENTRY = struct.Struct("<2Q")
_MAGIC = 0x70416E53  # "SnAp"
_VERSION = 1
_SECTOR_BYTES = 512


def changed_grains(
    read: Callable[[int, int], bytes],
    store_bytes: int,
    chunk_sectors: int,
    capacity_bytes: int,
) -> list[tuple[int, int]]:
    """Return the runs (first grain, count) that were written to, ascending.

    read(offset_bytes, count_bytes): reads the copy-on-write space.
    store_bytes: the size of that space.
    capacity_bytes: the size of the disk.

    Raises:
        ViewInvalid: the list is missing or incomplete.
    """
    chunk_bytes = chunk_sectors * _SECTOR_BYTES
    chunks_of_grain = GRAIN_BYTES // chunk_bytes
    grains = {
        old_chunk // chunks_of_grain
        for old_chunk in _old_chunks(read, store_bytes // chunk_bytes, chunk_sectors)
    }
    return join_runs(((grain, 1) for grain in grains), grain_count(capacity_bytes))


def _old_chunks(
    read: Callable[[int, int], bytes], store_chunks: int, chunk_sectors: int
) -> Iterator[int]:
    chunk_bytes = chunk_sectors * _SECTOR_BYTES
    magic, valid, version, sectors = _HEADER.unpack(read(0, _HEADER.size))
    if (magic, valid, version, sectors) != (_MAGIC, 1, _VERSION, chunk_sectors):
        raise ViewInvalid(
            f"The list of writes since the view begins with {magic:#x}, {valid}, {version}, "
            f"{sectors}; expected {_MAGIC:#x}, 1, {_VERSION}, {chunk_sectors}"
        )
    area_chunk = 1
    while area_chunk < store_chunks:
        for old_chunk, new_chunk in _ENTRY.iter_unpack(read(area_chunk * chunk_bytes, chunk_bytes)):
            if new_chunk == 0:
                return
            if new_chunk >= store_chunks:
                raise ViewInvalid(
                    f"The list of writes since the view names chunk {new_chunk} of its memory, "
                    f"which has {store_chunks}"
                )
            yield old_chunk
        area_chunk += chunk_bytes // _ENTRY.size + 1
    raise ViewInvalid("The list of writes since the view has no end")
