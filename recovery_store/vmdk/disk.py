"""Read a chain of VMDK streams as the one disk that a guest would see."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from .layout import GRAIN_BYTES, GRAINS_PER_TABLE, grain_count
from .merge import Pick, pick_grains, tables_in_chain
from .reader import FilePool, StreamFile

_TABLES_HELD = 64


class MergedDisk:
    """The merged view of a chain. Writes nothing.

    links: newest file first. The disk owns `pool` and closes it. Not thread-safe.
    """

    grain_bytes = GRAIN_BYTES

    def __init__(self, links: Sequence[StreamFile], pool: FilePool) -> None:
        self.capacity_bytes = links[0].capacity_bytes
        self._links = links
        self._pool = pool
        self._tables: OrderedDict[int, dict[int, Pick]] = OrderedDict()
        self._grain_held: tuple[int, bytes] | None = None

    def read(self, offset_bytes: int, count_bytes: int) -> bytes:
        """Return that part of the disk, shorter at its end.

        Raises:
            VmdkDamaged: a grain in it is damaged.
        """
        if offset_bytes < 0 or count_bytes < 0:
            raise ValueError("offset_bytes and count_bytes must not be negative")
        end = min(offset_bytes + count_bytes, self.capacity_bytes)
        parts = []
        while offset_bytes < end:
            index, start = divmod(offset_bytes, GRAIN_BYTES)
            step = min(GRAIN_BYTES - start, end - offset_bytes)
            grain = self.grain(index)
            parts.append(bytes(step) if grain is None else grain[start : start + step])
            offset_bytes += step
        return b"".join(parts)

    def grain(self, index: int) -> bytes | None:
        """Return a whole grain, or none if it reads as zero."""
        if self._grain_held is not None and self._grain_held[0] == index:
            return self._grain_held[1]
        number, slot = divmod(index, GRAINS_PER_TABLE)
        pick = self._table(number).get(slot)
        if pick is None:
            return None
        _, link, sector, end_sector = pick
        grain = self._links[link].read_grain(index, sector, end_sector)
        self._grain_held = (index, grain)
        return grain

    def present_grains(self) -> Iterator[tuple[int, StreamFile, bytes]]:
        """Yield (index, its file, marker and data) of every grain with data, ascending.

        `file.inflate_grain(data, index)` returns its content, in any thread.
        """
        total_grains = grain_count(self.capacity_bytes)
        for number, tables in tables_in_chain(self._links):
            first = number * GRAINS_PER_TABLE
            slots = min(GRAINS_PER_TABLE, total_grains - first)
            for slot, link, sector, end_sector in pick_grains(self._links, tables, slots):
                file = self._links[link]
                yield first + slot, file, file.read_sectors(sector, end_sector - sector)

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> MergedDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _table(self, number: int) -> dict[int, Pick]:
        table = self._tables.get(number)
        if table is not None:
            self._tables.move_to_end(number)
            return table
        tables = [
            (link, sector)
            for link, file in enumerate(self._links)
            if (sector := file.find_table_sector(number)) is not None
        ]
        table = {pick[0]: pick for pick in pick_grains(self._links, tables)}
        self._tables[number] = table
        if len(self._tables) > _TABLES_HELD:
            self._tables.popitem(last=False)
        return table
