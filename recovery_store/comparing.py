"""Compare a disk of a recovery point with a raw image, byte by byte, skipping shared holes."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from heapq import merge
from itertools import groupby
from operator import itemgetter

from .proof import Progress
from .vmdk.disk import MergedDisk
from .vmdk.imaging import data_runs, read_whole
from .vmdk.layout import GRAIN_BYTES
from .vmdk.reader import RawFile, StreamFile

_BATCH_GRAINS = 16
_BATCHES_IN_FLIGHT = 8
_ZERO_GRAIN = bytes(GRAIN_BYTES)

# A grain to compare: its index, and its file and bytes if the point has data for it.
_Item = tuple[int, StreamFile | None, bytes]


def find_difference(
    disk: MergedDisk, image: RawFile, progress: Progress | None = None
) -> str | None:
    """Return where disk and image first differ; none means they are identical.

    Raises:
        VmdkDamaged: the disk cannot be read.
        SourceUnreadable: the image cannot be read.
    """
    if disk.capacity_bytes != image.capacity_bytes:
        return f"the disk has {disk.capacity_bytes} bytes, the image {image.capacity_bytes}"
    pending: deque[Future[int | None]] = deque()
    with ThreadPoolExecutor(2, thread_name_prefix="compare") as pool:
        for batch in _batches(disk, image):
            pending.append(pool.submit(_first_difference, image, batch))
            if progress is not None:
                progress(batch[0][0] * GRAIN_BYTES, disk.capacity_bytes)
            if len(pending) >= _BATCHES_IN_FLIGHT:
                found = pending.popleft().result()
                if found is not None:
                    return _in_words(found)
        while pending:
            found = pending.popleft().result()
            if found is not None:
                return _in_words(found)
    return None


def _in_words(offset_bytes: int) -> str:
    return f"they differ from byte {offset_bytes} on"


def _batches(disk: MergedDisk, image: RawFile) -> Iterator[list[_Item]]:
    batch: list[_Item] = []
    for item in _items(disk, image):
        batch.append(item)
        if len(batch) == _BATCH_GRAINS:
            yield batch
            batch = []
    if batch:
        yield batch


def _items(disk: MergedDisk, image: RawFile) -> Iterator[_Item]:
    """Yield every grain where the point or the image may hold something, ascending."""

    def of_point() -> Iterator[tuple[int, int, StreamFile | None, bytes]]:
        for index, file, data in disk.present_grains():
            yield index, 0, file, data

    def of_image() -> Iterator[tuple[int, int, StreamFile | None, bytes]]:
        for first, count, is_data in data_runs(image.fd, image.capacity_bytes):
            if is_data:
                for index in range(first, first + count):
                    yield index, 1, None, b""

    # If both name a grain, the point's comes first, and that one counts.
    ordered = merge(of_point(), of_image(), key=itemgetter(0, 1))
    for index, group in groupby(ordered, key=itemgetter(0)):
        _, _, file, data = next(group)
        yield index, file, data


def _first_difference(image: RawFile, batch: list[_Item]) -> int | None:
    """Return the first byte of the disk at which the batch differs."""
    for index, file, data in batch:
        start = index * GRAIN_BYTES
        wanted = min(GRAIN_BYTES, image.capacity_bytes - start)
        expected = _ZERO_GRAIN if file is None else file.inflate_grain(data, index)
        got = read_whole(image.fd, start, wanted)
        if got != expected[:wanted]:
            return start + next(at for at in range(wanted) if got[at] != expected[at])
    return None
