"""Verify files against their digests, and report what is missing or damaged.

Three separate verbs: list what a store holds, check it (changes nothing), clean up as a report
says. "Cannot be read" never counts as "is empty".
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from .errors import VmdkDamaged
from .manifest import DiskEntry, Manifest
from .vmdk.contents import ContentReader

# Buffers that fit into a core's own cache are read and digested fastest.
_READ_BYTES = 256 << 10
_CONTENT_READ_BYTES = 1 << 20
Progress = Callable[[int, int], object]
# Whether the grains of the point with that id have to be inflated too.
NeedsContent = Callable[[str], bool]


def every_point(point_id: str) -> bool:
    """Inflate the grains of every point that is read."""
    return True


def no_point(point_id: str) -> bool:
    """Inflate nothing: what is read was proven before, or is inflated when it is used."""
    return False


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    code: "missing" or "damaged" for the thing itself; "broken" for a point that is unusable because
        of a fault elsewhere in its chain.
    """

    code: str
    machine_id: str
    point_id: str
    text: str
    machine_name: str = ""
    file: str | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


@dataclass(frozen=True)
class Proof:
    """What was verified: a chain, base image first, and the size of its files."""

    manifests: tuple[Manifest, ...]
    proven_bytes: int


@dataclass(frozen=True)
class Report:
    """The outcome of a check.

    good_points: points with a fully verified chain, oldest first within a machine.
    leftovers: unfinished folders and files that no running writer uses.
    """

    findings: tuple[Fault, ...]
    good_points: tuple[Manifest, ...]
    leftovers: tuple[Path, ...]

    @property
    def is_good(self) -> bool:
        return not self.findings


class _Counter:
    """Adds up bytes across threads; only the thread that made it calls back."""

    def __init__(self, total_bytes: int, progress: Progress | None) -> None:
        self.total_bytes = total_bytes
        self.done_bytes = 0
        self._progress = progress
        self._lock = threading.Lock()
        self.is_cancelled = False

    def add(self, count_bytes: int) -> None:
        with self._lock:
            self.done_bytes += count_bytes

    def tell(self) -> None:
        if self._progress is not None:
            self._progress(min(self.done_bytes, self.total_bytes), self.total_bytes)


def prove_files(
    points: Sequence[tuple[Path, Manifest]],
    progress: Progress | None = None,
    needs_content: NeedsContent = every_point,
    threads: int = 2,
) -> list[Fault]:
    """Read every file of those points and compare each range with its digest.

    needs_content: of which points to inflate each grain too, and compare it with its digest.
    """
    work = [(folder, manifest, disk) for folder, manifest in points for disk in manifest.disks]
    counter = _Counter(sum(disk.file_bytes for _, _, disk in work), progress)
    findings: list[Fault] = []
    with ThreadPoolExecutor(threads, thread_name_prefix="prove") as pool:
        try:
            for folder, manifest, disk in work:
                read = _read_content if needs_content(manifest.point_id) else _read_ranges
                path = folder / disk.file
                findings += _prove_file(pool, threads, path, manifest, disk, counter, read)
        finally:
            counter.is_cancelled = True
    counter.tell()
    return findings


def _prove_file(
    pool: ThreadPoolExecutor,
    threads: int,
    path: Path,
    manifest: Manifest,
    disk: DiskEntry,
    counter: _Counter,
    read: "_Read",
) -> list[Fault]:
    def finding(code: str, what: str) -> Fault:
        return Fault(
            code,
            manifest.machine_id,
            manifest.point_id,
            f"{manifest.machine_name}, recovery point {manifest.point_id}, {disk.file}: {what}"
            f" ({path})",
            manifest.machine_name,
            disk.file,
        )

    try:
        # Never waits: on a carried disk, a pipe may have the name of a disk file.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return [finding("missing", "the file is missing")]
    except OSError as error:
        return [finding("damaged", f"the file cannot be opened: {error.strerror}")]
    try:
        length_bytes = os.fstat(fd).st_size
        if length_bytes != disk.file_bytes:
            return [finding("damaged", f"{length_bytes} bytes long, expected {disk.file_bytes}")]
        bad = read(pool, threads, fd, disk, counter)
    except VmdkDamaged as error:
        what = f"its digests match, but it cannot be restored: {error}"
        return [finding("damaged", what)]
    except OSError as error:
        return [finding("damaged", f"the file cannot be read: {error.strerror}")]
    finally:
        os.close(fd)
    if not bad:
        return []
    return [
        finding(
            "damaged",
            f"{len(bad)} of {len(disk.range_digests)} ranges do not match"
            f" their digests, the first at byte {min(bad) * disk.range_bytes}",
        )
    ]


_Read = Callable[[ThreadPoolExecutor, int, int, DiskEntry, _Counter], list[int]]


def _read_ranges(
    pool: ThreadPoolExecutor, threads: int, fd: int, disk: DiskEntry, counter: _Counter
) -> list[int]:
    """Check every range; return those that do not match their digests."""
    futures = [
        pool.submit(_bad_ranges, fd, disk, first, threads, counter) for first in range(threads)
    ]
    bad: list[int] = []
    for future in futures:
        bad += future.result()
        counter.tell()
    return bad


def _read_content(
    pool: ThreadPoolExecutor, threads: int, fd: int, disk: DiskEntry, counter: _Counter
) -> list[int]:
    """Check every range, and inflate every grain, in one pass; return the bad ranges.

    Raises:
        VmdkDamaged: the ranges are good, but a grain does not inflate or has other content.
    """
    content = ContentReader(pool)
    bad = []
    for number, expected in enumerate(disk.range_digests):
        digest = blake3()
        start = number * disk.range_bytes
        end = min(start + disk.range_bytes, disk.file_bytes)
        while start < end and (data := os.pread(fd, min(_CONTENT_READ_BYTES, end - start), start)):
            digest.update(data)
            content.feed(data)
            start += len(data)
            counter.add(len(data))
            counter.tell()
        if digest.hexdigest() != expected:
            bad.append(number)
            content.stop(VmdkDamaged("a range does not match its digest"))
    if not bad:
        check_content(content, disk)
    return bad


def check_content(content: ContentReader, disk: DiskEntry) -> None:
    """Compare the content of a file that was fed completely with its digest.

    Raises:
        VmdkDamaged: a grain does not inflate, or the grains have other content.
    """
    digest = content.hexdigest()
    if disk.content_digest not in (None, digest):
        raise VmdkDamaged("its grains inflate to other content than the machine had")


def _bad_ranges(fd: int, disk: DiskEntry, first: int, step: int, counter: _Counter) -> list[int]:
    """Check every step-th range; return those that do not match their digests."""
    buffer = memoryview(bytearray(_READ_BYTES))
    bad: list[int] = []
    for number in range(first, len(disk.range_digests), step):
        if counter.is_cancelled:
            return bad
        start = number * disk.range_bytes
        end = min(start + disk.range_bytes, disk.file_bytes)
        digest = digest_range(fd, start, end, buffer)
        counter.add(end - start)
        if digest != disk.range_digests[number]:
            bad.append(number)
    return bad


def digest_range(fd: int, start: int, end: int, buffer: memoryview) -> str:
    """Return the BLAKE3 of that part of a file, or of what there is if the file ends earlier."""
    digest = blake3()
    while start < end:
        count = os.preadv(fd, [buffer[: end - start]], start)
        if not count:
            break
        digest.update(buffer[:count])
        start += count
    return digest.hexdigest()
