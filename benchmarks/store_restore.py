"""A restore plan of a chain, written to a disk by the rescue agent's own writer, without a network.

The disk is a file. The peer only inflates as many grains, with a thread per core. They alternate,
after the base image was read once; the best of three counts.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from mmap import ACCESS_READ, mmap
from pathlib import Path

from isal import isal_zlib

from agent.rescue.disk_writer import HEAD_BYTES, DiskWriter, write_head
from benchmarks.disk_image import change_image, copy_image, ensure_disk_image
from benchmarks.figures import Figure, at_most, run_command
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from recovery_store.vmdk.layout import (
    GRAIN_MARKER,
    OVERHEAD_SECTORS,
    SECTOR_BYTES,
    padding_bytes,
)
from recovery_store.vmdk.restore import RestorePlan

_CHANGED_FRACTION = 0.01
_THREADS = 2
_TURNS = 3
_BATCHES_IN_FLIGHT = 8
_BATCH_GRAINS = 64
_STORE = [sys.executable, "-m", "recovery_store"]


def run(work: Path) -> list[Figure]:
    """Restore a point, then only what changed since; verify the disk with `compare` each time."""
    image = copy_image(ensure_disk_image(work.parent), work / "disk.raw")
    store = Store(work / "store")
    base = _import(store, image)
    middle = _import_changed(store, image, base)
    disk = work / "restored.raw"
    rate = _whole(store, base, middle, disk)
    _check(store, middle, disk)
    newest = _import_changed(store, image, _import_changed(store, image, middle))
    image.unlink()
    sent = _since(store, newest, middle, disk)
    _check(store, newest, disk)
    return [rate, sent]


def _import(store: Store, image: Path, parent: Manifest | None = None) -> Manifest:
    command = [*_STORE, "import", store.root, "--machine", "bench", image]
    command += ["--parent", parent.point_id] if parent else []
    point_id = run_command(command).output.split()[-1]
    machine_id = store.find_machine_of(point_id)
    assert machine_id is not None
    return store.get_point(machine_id, point_id)


def _import_changed(store: Store, image: Path, parent: Manifest) -> Manifest:
    change_image(image, _CHANGED_FRACTION, seed=len(store.points(parent.machine_id)))
    return _import(store, image, parent)


def _check(store: Store, point: Manifest, disk: Path) -> None:
    run_command([*_STORE, "compare", store.root, point.point_id, 0, disk])


def _whole(store: Store, base: Manifest, point: Manifest, disk: Path) -> Figure:
    vmdk = store.get_folder(base.machine_id, base.point_id) / base.disk(0).file
    restoring, inflating = [], []
    _inflating_alone(vmdk)
    for _ in range(_TURNS):
        inflating.append(_inflating_alone(vmdk))
        disk.unlink(missing_ok=True)
        with store.plan_restore(point.machine_id, point.point_id, 0) as plan:
            restoring.append(_restore(plan, disk) / plan.data_bytes)
    # Compared by stored bytes, since the point holds a few more grains than the base image.
    rate = 1 / min(restoring) / 1e6
    alone_rate = base.stored_bytes / min(inflating) / 1e6
    return Figure(
        "Restore of base + incremental to a disk, as stored",
        rate,
        f"inflating with isal alone, {_THREADS} threads",
        alone_rate,
        "MB/s",
        rate / alone_rate,
        "≥ 0.6 ×",
        rate >= 0.6 * alone_rate,
    )


def _since(store: Store, point: Manifest, since: Manifest, disk: Path) -> Figure:
    """Update the disk to the newest point; count the bytes and seconds."""
    file_bytes = store.bytes_since(point.machine_id, point.point_id, since.point_id)
    with store.plan_restore(point.machine_id, point.point_id, 0, since.point_id) as plan:
        seconds = _restore(plan, disk)
        data_bytes = plan.data_bytes
    return at_most(
        f"Bytes to restore after twice 1 % in random 4 KiB writes ({seconds:.1f} s)",
        data_bytes / 1e6,
        "the changed points' files",
        file_bytes / 1e6,
        "MB",
        1.05,
    )


def _restore(plan: RestorePlan, disk: Path) -> float:
    """Return the seconds until all runs of a plan are on the disk and flushed."""
    with disk.open("ab+") as file:
        file.truncate(plan.capacity_bytes)
        file.seek(0)
        head = file.read(HEAD_BYTES)
    started = time.monotonic()
    with DiskWriter(disk, plan.capacity_bytes, 0, False, lambda _: None, head) as writer:
        for entry in plan.read_runs():
            if entry.zero_grains:
                writer.zero_run(entry.first_grain, entry.zero_grains)
            else:
                writer.write_run(entry.first_grain, entry.compressed)
        writer.finish()
    write_head(disk, writer.head)
    return time.monotonic() - started


def _inflating_alone(vmdk: Path) -> float:
    """Return the seconds to read a stream and inflate each grain with isal."""

    def inflate_all(grains: list[memoryview]) -> None:
        for grain in grains:
            isal_zlib.decompress(grain)

    started = time.monotonic()
    with vmdk.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        _in_threads(inflate_all, _batches(memoryview(content)))
    return time.monotonic() - started


def _batches(stream: memoryview) -> Iterator[list[memoryview]]:
    """Yield the compressed grains of a stream in batches."""
    batch: list[memoryview] = []
    at = OVERHEAD_SECTORS * SECTOR_BYTES
    while at < len(stream):
        value, size_bytes = GRAIN_MARKER.unpack_from(stream, at)
        if size_bytes:
            data = at + GRAIN_MARKER.size
            batch.append(stream[data : data + size_bytes])
            at = data + size_bytes + padding_bytes(data + size_bytes)
        else:
            at += (1 + value) * SECTOR_BYTES
        if len(batch) == _BATCH_GRAINS:
            yield batch
            batch = []
    yield batch


def _in_threads(
    act: Callable[[list[memoryview]], object], work: Iterable[list[memoryview]]
) -> None:
    pending: deque[Future[object]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for each in work:
            pending.append(pool.submit(act, each))
            if len(pending) >= _BATCHES_IN_FLIGHT:
                pending.popleft().result()
        while pending:
            pending.popleft().result()
