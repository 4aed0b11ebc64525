"""A restore through the agent over TLS on loopback, compared with what limits it.

The agent is a separate process and writes to a file instead of a disk; this process is the core and
sends a point from a store. Each peer does one thing with the same grains, with a thread per core:
read and inflate them, or write as many bytes to the same offsets of such a file, also bypassing the
page cache. They alternate, after the store's file was read once; the best of three counts.
"""

import mmap
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from isal import isal_zlib

from benchmarks.agent_process import running_agent
from benchmarks.disk_image import ensure_disk_image
from benchmarks.figures import Figure, at_most, run_command
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from recovery_store.vmdk.layout import GRAIN_BYTES
from recovery_store.vmdk.restore import RestorePlan, RestoreRun

_THREADS = 2
_RUNS_AT_ONCE = 8
_TURNS = 3
_STORE = [sys.executable, "-m", "recovery_store"]


def run(work: Path) -> list[Figure]:
    """Restore a base image of the disk, and verify it with `cmp`."""
    image = ensure_disk_image(work.parent)
    store = Store(work / "store")
    point_id = run_command([*_STORE, "import", store.root, "--machine", "bench", image]).output
    point = store.get_point(_machine_of(store), point_id.split()[-1])
    disk = work / "restored.raw"
    restoring, inflating, writing, peaks = [], [], [], []
    with _plan(store, point) as plan:
        data_bytes = plan.grains * GRAIN_BYTES
        _each_run(plan, _read)
        for turn in range(_TURNS):
            inflating.append(_each_run(plan, _inflate))
            _make_blank(disk, plan.capacity_bytes)
            writing.append(_write_alone(plan, disk))
            _make_blank(disk, plan.capacity_bytes)
            seconds, peak_bytes = _restore(work, plan, disk, f"point-{turn}")
            restoring.append(seconds)
            peaks.append(peak_bytes)
    run_command(["cmp", image, disk])
    rate, inflate_rate, write_rate = (
        data_bytes / min(seconds) / 1e6 for seconds in (restoring, inflating, writing)
    )
    limits = f"inflating alone {inflate_rate:,.0f}, writing alone {write_rate:,.0f} MB/s"
    slower = min(inflate_rate, write_rate)
    figure = Figure(
        f"Restore through the agent over TLS ({limits})",
        rate,
        f"the slower of the two, {_THREADS} threads",
        slower,
        "MB/s",
        rate / slower,
        "≥ 0.6 ×",
        rate >= 0.6 * slower,
    )
    return [figure, at_most("Memory of a restoring agent", max(peaks) / 1e6, "limit", 250, "MB", 1)]


def _machine_of(store: Store) -> str:
    (machine_id,) = (folder.name for folder in (store.root / "machines").iterdir())
    return machine_id


def _plan(store: Store, point: Manifest) -> RestorePlan:
    return store.plan_restore(point.machine_id, point.point_id, point.disks[0].number)


def _make_blank(disk: Path, capacity_bytes: int) -> None:
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(capacity_bytes)
    os.sync()


def _restore(work: Path, plan: RestorePlan, disk: Path, token: str) -> tuple[float, int]:
    """Return the seconds until the disk is complete, and the agent's peak memory."""
    folder = work / token
    folder.mkdir()
    with running_agent(folder, disk, mode="restore") as agent:
        started = time.monotonic()
        agent.client.restore_disk(0, plan, token)
        agent.client.restart_from_disk()
        return time.monotonic() - started, agent.peak_bytes()


def _each_run(plan: RestorePlan, act: Callable[[RestoreRun], object]) -> float:
    """Return the seconds to read all runs and have the threads process each."""
    started = time.monotonic()
    pending: deque[Future[object]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for entry in plan.read_runs():
            pending.append(pool.submit(act, entry))
            if len(pending) == _RUNS_AT_ONCE:
                pending.popleft().result()
        while pending:
            pending.popleft().result()
    return time.monotonic() - started


def _read(entry: RestoreRun) -> None:
    for grain in entry.compressed:
        bytes(grain)


def _inflate(entry: RestoreRun) -> None:
    for grain in entry.compressed:
        isal_zlib.decompress(grain, bufsize=GRAIN_BYTES)


def _write_alone(plan: RestorePlan, disk: Path) -> float:
    """Return the seconds to write as many bytes to the same offsets, bypassing the page cache."""
    buffer = mmap.mmap(-1, 64 * GRAIN_BYTES)
    buffer[:] = os.urandom(GRAIN_BYTES) * 64
    descriptor = os.open(disk, os.O_RDWR | os.O_DIRECT)

    def write(entry: RestoreRun) -> None:
        with memoryview(buffer) as data:
            part = data[: len(entry.compressed) * GRAIN_BYTES]
            os.pwrite(descriptor, part, entry.first_grain * GRAIN_BYTES)

    try:
        seconds = _each_run(plan, write)
        started = time.monotonic()
        os.fsync(descriptor)
        return seconds + time.monotonic() - started
    finally:
        os.close(descriptor)
