"""Merge the grain tables of a chain, and copy the compressed grains that win.

Nothing is inflated: a grain and its marker are copied as they are. The exact length is known before
the first byte is copied. Tables are merged one at a time, twice: once for the length, once while
copying, so memory use does not grow with the disk.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from ..errors import VmdkLimit
from .descriptor import Descriptor
from .layout import (
    ENTRY_ZERO,
    FILE_LIMIT_SECTORS,
    GRAIN_BYTES,
    GRAINS_PER_TABLE,
    MARKER_GRAIN_TABLE,
    OVERHEAD_SECTORS,
    SECTOR_BYTES,
    TABLE_BYTES,
    TABLE_SECTORS,
    Header,
    grain_count,
    metadata_marker,
    table_count,
    table_to_bytes,
)
from .reader import FilePool, StreamFile
from .writer import stream_head, stream_tail, tail_sectors

_CHUNK_BYTES = 1 << 20
# Small enough to report progress often, and to stop a cancelled export quickly.
_SEND_BYTES = 4 << 20
_EMPTY_TABLE = bytes(TABLE_BYTES)


# The grain that wins a slot: slot, index of its file in the chain, first sector, end sector.
Pick = tuple[int, int, int, int]


class _Run(NamedTuple):
    """Consecutive sectors of one file, copied together."""

    link: int
    sector: int
    sectors: int


def tables_in_chain(
    links: Sequence[StreamFile],
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield (table number, [(link, sector of its table)]) of every table in the chain, ascending.

    links: newest file first, as everywhere in this module; so are the pairs.
    """

    def tables_of(link: int) -> Iterator[tuple[int, int, int]]:
        file = links[link]
        for position, number in enumerate(file.table_numbers):
            yield number, link, file.table_sectors[position]

    ordered = merge(*(tables_of(link) for link in range(len(links))))
    for number, group in groupby(ordered, key=itemgetter(0)):
        yield number, [(link, sector) for _, link, sector in group]


def pick_grains(
    links: Sequence[StreamFile],
    tables: Sequence[tuple[int, int]],
    slots: int = GRAINS_PER_TABLE,
    keeps_zeros: bool = False,
) -> list[Pick]:
    """Return the grains of one table that hold data, ascending; the newest file wins a slot.

    tables: the links that have the table, and its sector in each, newest first.
    slots: how many of the table's grains are within the disk.
    keeps_zeros: also return grains that a delta declares zero, with ENTRY_ZERO as both sectors.
    """
    winners: list[Pick | None] = [None] * GRAINS_PER_TABLE
    for link, table_sector in tables:
        for slot, sector, end_sector in links[link].grain_locations(table_sector):
            if winners[slot] is None:
                winners[slot] = (slot, link, sector, end_sector)
    return [
        pick
        for pick in winners[:slots]
        if pick is not None and (keeps_zeros or pick[2] != ENTRY_ZERO)
    ]


class ExportPlan:
    """One full stream made of a chain: its length is known at once, its bytes are read on demand.

    links: newest file first. The plan owns `pool` and closes it.
    step_bytes: the disk is enlarged to a multiple of this; what is added reads as zeros.

    Raises:
        VmdkLimit: the result would exceed 2 TiB, more than one stream can hold.
    """

    def __init__(
        self,
        links: Sequence[StreamFile],
        pool: FilePool,
        cid: str,
        extent_name: str = "disk.vmdk",
        step_bytes: int = SECTOR_BYTES,
    ) -> None:
        self.capacity_bytes = -(-links[0].capacity_bytes // step_bytes) * step_bytes
        self._links = links
        self._pool = pool
        self._header = Header(self.capacity_bytes // SECTOR_BYTES)
        self._descriptor = Descriptor(self._header.capacity_sectors, cid, extent_name=extent_name)
        grains = tables = sectors = 0
        for picks in self._merged_tables():
            tables += 1
            grains += len(picks[1])
            sectors += sum(end - sector for _, _, sector, end in picks[1])
        self.data_bytes = min(grains * GRAIN_BYTES, self.capacity_bytes)
        total_sectors = (
            OVERHEAD_SECTORS
            + sectors
            + tables * (1 + TABLE_SECTORS)
            + tail_sectors(self.capacity_bytes)
        )
        if total_sectors > FILE_LIMIT_SECTORS:
            raise VmdkLimit(
                f"The exported disk would take {total_sectors * SECTOR_BYTES} bytes; one VMDK"
                " stream holds at most 2 TiB"
            )
        self.length_bytes = total_sectors * SECTOR_BYTES

    def read_chunks(self, chunk_bytes: int = _CHUNK_BYTES) -> Iterator[memoryview]:
        """Yield the stream in chunks of that length, the last one shorter; they stay valid.

        Can be called repeatedly.

        Raises:
            VmdkDamaged: a file of the chain has been removed or truncated since.
        """
        return self._chunks(chunk_bytes, lambda: memoryview(bytearray(chunk_bytes)))

    def write_to(
        self,
        path: Path,
        progress: Callable[[int, int], object] | None = None,
        before_rename: Callable[[], object] | None = None,
    ) -> None:
        """Write the stream to a new file, which appears only once it is complete.

        The file is not synced.

        before_rename: may raise to refuse; then nothing is left behind.

        Raises:
            VmdkDamaged: as in `read_chunks`.
            OSError: the file cannot be written.
        """
        partial = path.with_name(f"{path.name}.partial")
        try:
            with partial.open("wb", buffering=0) as file:
                self.write_into(file.fileno(), progress)
            if before_rename is not None:
                before_rename()
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def write_into(self, fd: int, progress: Callable[[int, int], object] | None = None) -> None:
        """Write the stream to an open file or pipe; errors as in `write_to`."""
        done_bytes = 0
        for piece in self._pieces():
            if isinstance(piece, _Run):
                for count in self._send(piece, fd):
                    done_bytes += count
                    if progress is not None:
                        progress(done_bytes, self.length_bytes)
            else:
                written = 0
                while written < len(piece):
                    written += os.write(fd, piece[written:])
                done_bytes += written
        if progress is not None:
            progress(done_bytes, self.length_bytes)

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> ExportPlan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _merged_tables(self) -> Iterator[tuple[int, list[Pick]]]:
        total_grains = grain_count(self.capacity_bytes)
        for number, tables in tables_in_chain(self._links):
            slots = min(GRAINS_PER_TABLE, total_grains - number * GRAINS_PER_TABLE)
            picks = pick_grains(self._links, tables, slots)
            if picks:
                yield number, picks

    def _pieces(self) -> Iterator[bytes | _Run]:
        directory = array("I", bytes(4 * table_count(self.capacity_bytes)))
        yield stream_head(self._header, self._descriptor)
        sector = OVERHEAD_SECTORS
        marker = metadata_marker(MARKER_GRAIN_TABLE, TABLE_SECTORS)
        for number, picks in self._merged_tables():
            entries = array("I", _EMPTY_TABLE)
            run_link = run_start = run_end = -1
            for slot, link, start, end in picks:
                entries[slot] = sector
                sector += end - start
                if link == run_link and start == run_end:
                    run_end = end
                    continue
                if run_link >= 0:
                    yield _Run(run_link, run_start, run_end - run_start)
                run_link, run_start, run_end = link, start, end
            yield _Run(run_link, run_start, run_end - run_start)
            yield marker
            directory[number] = sector + 1
            yield table_to_bytes(entries)
            sector += 1 + TABLE_SECTORS
        yield stream_tail(self._header, directory, sector)

    def _chunks(
        self, chunk_bytes: int, make_buffer: Callable[[], memoryview]
    ) -> Iterator[memoryview]:
        buffer = make_buffer()
        filled = 0
        for piece in self._pieces():
            is_run = isinstance(piece, _Run)
            position = 0
            length = piece.sectors * SECTOR_BYTES if isinstance(piece, _Run) else len(piece)
            while position < length:
                step = min(length - position, chunk_bytes - filled)
                target = buffer[filled : filled + step]
                if is_run:
                    self._copy(piece, position, target)  # type: ignore[arg-type]
                else:
                    target[:] = piece[position : position + step]  # type: ignore[assignment]
                position += step
                filled += step
                if filled == chunk_bytes:
                    yield buffer
                    buffer = make_buffer()
                    filled = 0
        if filled:
            yield buffer[:filled]

    def _send(self, run: _Run, fd: int) -> Iterator[int]:
        """Have the kernel copy a run, without copying it through this process; yield the counts."""
        file = self._links[run.link]
        start, end = run.sector * SECTOR_BYTES, (run.sector + run.sectors) * SECTOR_BYTES
        while start < end:
            count = file.send_to(fd, start, min(end - start, _SEND_BYTES))
            start += count
            yield count

    def _copy(self, run: _Run, position: int, target: memoryview) -> None:
        self._links[run.link].read_into(run.sector * SECTOR_BYTES + position, target)
