"""What to write to a real disk so that it holds a recovery point, in runs of grains.

Nothing is inflated here: the grains are sent as they are stored, and the agent that writes them
inflates them. As in an export, memory use does not grow with the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import VmdkDamaged
from .layout import (
    ENTRY_ZERO,
    GRAIN_MARKER,
    GRAIN_SECTORS,
    GRAINS_PER_TABLE,
    SECTOR_BYTES,
    grain_count,
)
from .merge import Pick, pick_grains, tables_in_chain
from .reader import FilePool, StreamFile

_RUN_LIMIT_SECTORS = (1 << 20) // SECTOR_BYTES
_RUN_LIMIT_GRAINS = 64  # 4 MiB of disk


class RestoreRun(NamedTuple):
    """Consecutive grains of the disk: either all with data or all zero.

    compressed: one for each grain, in the zlib wrapper, inflating to 64 KiB; empty for zeros.
    zero_grains: the length of a run of zeros, which has no limit.
    data_bytes: the size of the grains in the store; those of all runs add up to the plan's.

    The last grain of a disk may extend past the disk's end; that part must not be written.
    """

    first_grain: int
    compressed: list[memoryview]
    zero_grains: int = 0
    data_bytes: int = 0

    @property
    def end_grain(self) -> int:
        """The grain after the run: where to resume once the run is on disk."""
        return self.first_grain + (self.zero_grains or len(self.compressed))


class _Stretch(NamedTuple):
    """A run before it is read; its picks name grains of the disk, not slots."""

    first_grain: int
    picks: list[Pick]
    zero_grains: int = 0


class RestorePlan:
    """The runs to write to a disk so that it holds a point; their total size is known at once.

    links: newest file first. The plan owns `pool` and closes it. Not thread-safe.
    counting: how many of the newest links to write; the disk already holds the others.
    held_bytes: how much of the disk holds them; the rest is zeroed where nothing is written.

    Raises:
        VmdkDamaged: a table of the chain is damaged.
    """

    def __init__(
        self, links: Sequence[StreamFile], pool: FilePool, counting: int, held_bytes: int
    ) -> None:
        self.capacity_bytes = links[0].capacity_bytes
        self._links = links
        self._pool = pool
        self._counting = counting
        self._total_grains = grain_count(self.capacity_bytes)
        self._keeps_zeros = counting < len(links)
        self._zero_from = self._total_grains
        self._border: int | None = None
        if held_bytes < self.capacity_bytes:
            # The grain on the border was cut when it was written, so it is due again.
            self._zero_from, rest_bytes = divmod(held_bytes, GRAIN_SECTORS * SECTOR_BYTES)
            self._border = self._zero_from if rest_bytes else None
        self.grains, self.zero_grains, self.data_bytes = self._measure(0)

    def read_runs(self, from_grain: int = 0) -> Iterator[RestoreRun]:
        """Yield the runs from that grain on, ascending.

        Raises:
            VmdkDamaged: a file of the chain has been removed, or a grain is not where its table
                says.
        """
        for stretch in self._stretches(from_grain):
            if stretch.zero_grains:
                yield RestoreRun(stretch.first_grain, [], stretch.zero_grains)
            else:
                compressed = self._read(stretch.picks)
                yield RestoreRun(stretch.first_grain, compressed, 0, _data_bytes(stretch.picks))

    def left_bytes(self, from_grain: int) -> int:
        """Return how many of `data_bytes` are due from that grain on."""
        return self._measure(from_grain)[2]

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> RestorePlan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tables(self, from_grain: int) -> Iterator[tuple[int, list[Pick]]]:
        """Yield (first grain, due grains) of each table, with zeros where they matter."""
        border_table = None if self._border is None else self._border // GRAINS_PER_TABLE
        for number, tables in tables_in_chain(self._links):
            first = number * GRAINS_PER_TABLE
            if number != border_table:
                tables = [table for table in tables if table[0] < self._counting]
            if not tables or first + GRAINS_PER_TABLE <= from_grain:
                continue
            slots = min(GRAINS_PER_TABLE, self._total_grains - first)
            picks = pick_grains(self._links, tables, slots, self._keeps_zeros)
            if number == border_table:
                picks = [
                    pick
                    for pick in picks
                    if pick[1] < self._counting or first + pick[0] == self._border
                ]
            if first < from_grain:
                picks = [pick for pick in picks if first + pick[0] >= from_grain]
            yield first, picks

    def _measure(self, from_grain: int) -> tuple[int, int, int]:
        """Return how many grains with data, zero grains and bytes are due from a grain on."""
        zero_from = max(from_grain, self._zero_from)
        grains = data_sectors = 0
        zero_grains = self._total_grains - zero_from if zero_from < self._total_grains else 0
        for first, picks in self._tables(from_grain):
            data = [pick for pick in picks if pick[2] != ENTRY_ZERO]
            grains += len(data)
            data_sectors += sum(end - sector for _, _, sector, end in data)
            if first + GRAINS_PER_TABLE > zero_from:
                # Those with data were counted as zero above.
                zero_grains -= sum(first + pick[0] >= zero_from for pick in data)
            if first < zero_from:
                zero_grains += sum(
                    first + pick[0] < zero_from and pick[2] == ENTRY_ZERO for pick in picks
                )
        return grains, zero_grains, data_sectors * SECTOR_BYTES

    def _pieces(self, from_grain: int) -> Iterator[tuple[int, int, Pick | None]]:
        """Yield (first grain, end grain, pick or none for zeros) of all that is due."""
        # From here on, grains without a pick are zero.
        position = max(from_grain, self._zero_from)
        for first, picks in self._tables(from_grain):
            for slot, link, sector, end_sector in picks:
                grain = first + slot
                if grain > position:
                    yield position, grain, None
                position = max(position, grain + 1)
                is_zero = sector == ENTRY_ZERO
                yield grain, grain + 1, None if is_zero else (grain, link, sector, end_sector)
        if position < self._total_grains:
            yield position, self._total_grains, None

    def _stretches(self, from_grain: int) -> Iterator[_Stretch]:
        """Yield data in stretches of limited length, and zeros in stretches of any length."""
        picks: list[Pick] = []
        sectors = zero_first = zero_end = 0
        for first, end, pick in self._pieces(from_grain):
            if zero_end > zero_first and (pick is not None or first != zero_end):
                yield _Stretch(zero_first, [], zero_end - zero_first)
                zero_first = zero_end = 0
            if picks and (
                first != picks[-1][0] + 1
                or pick is None
                or len(picks) == _RUN_LIMIT_GRAINS
                or sectors >= _RUN_LIMIT_SECTORS
            ):
                yield _Stretch(picks[0][0], picks)
                picks, sectors = [], 0
            if pick is not None:
                picks.append(pick)
                sectors += pick[3] - pick[2]
            else:
                zero_first = zero_first if zero_end > zero_first else first
                zero_end = end
        if zero_end > zero_first:
            yield _Stretch(zero_first, [], zero_end - zero_first)
        if picks:
            yield _Stretch(picks[0][0], picks)

    def _read(self, picks: Sequence[Pick]) -> list[memoryview]:
        """Read the grains, adjacent ones together; return the compressed data of each."""
        buffer = memoryview(bytearray(_data_bytes(picks)))
        at = 0
        # Adjacent grains not read yet: their file, first sector and end sector.
        link, start, end = picks[0][1], picks[0][2], picks[0][2]
        for _, next_link, sector, end_sector in picks:
            if next_link != link or sector != end:
                at += self._copy(link, start, end, buffer[at:])
                link, start = next_link, sector
            end = end_sector
        self._copy(link, start, end, buffer[at:])
        compressed: list[memoryview] = []
        at = 0
        for grain, link, sector, end_sector in picks:
            lba, size_bytes = GRAIN_MARKER.unpack_from(buffer, at)
            room_bytes = (end_sector - sector) * SECTOR_BYTES
            if lba != grain * GRAIN_SECTORS or not 0 < size_bytes <= room_bytes - GRAIN_MARKER.size:
                raise VmdkDamaged(
                    f"{self._links[link].path}: grain {grain} is not where its table says"
                )
            data = at + GRAIN_MARKER.size
            compressed.append(buffer[data : data + size_bytes])
            at += room_bytes
        return compressed

    def _copy(self, link: int, sector: int, end_sector: int, target: memoryview) -> int:
        count_bytes = (end_sector - sector) * SECTOR_BYTES
        self._links[link].read_into(sector * SECTOR_BYTES, target[:count_bytes])
        return count_bytes


def _data_bytes(picks: Sequence[Pick]) -> int:
    return sum(end_sector - sector for _, _, sector, end_sector in picks) * SECTOR_BYTES
