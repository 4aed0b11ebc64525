"""A restore onto a machine that runs the rescue medium, whole and since an earlier point.

The rescue agent is a process of its own, reached over TLS on loopback, and a file is its disk; this
process is the core. The peers only inflate the same grains, or only write as many bytes.
"""

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TypeVar

from isal import isal_zlib

from agent.client import AgentClient, CoreCredentials, pair_with_agent
from benchmarks.disk_image import change_image, copy_image, ensure_disk_image
from benchmarks.figures import Figure, at_most, run_command
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from recovery_store.vmdk.layout import (
    GRAIN_BYTES,
    GRAIN_MARKER,
    OVERHEAD_SECTORS,
    SECTOR_BYTES,
    padding_bytes,
)
from recovery_store.vmdk.restore import RestorePlan, RestoreRun
from tests.replication.proxy import Link

_CHANGED_FRACTION = 0.01
_THREADS = 2
_IN_FLIGHT = 8
_BATCH_GRAINS = 64
_ZERO_GRAIN = bytes(GRAIN_BYTES)
_LIMIT_SECONDS = 30
_CODE = "BENCH-CODE-1234"
_STORE = [sys.executable, "-m", "recovery_store"]
_Work = TypeVar("_Work")


def run(work: Path) -> list[Figure]:
    """Restore a base image and what changed since; let `compare` judge the disk."""
    image = copy_image(ensure_disk_image(work.parent), work / "disk.raw")
    store = Store(work / "store")
    base = _import(store, image)
    rescue = _Rescue(work, image.stat().st_size)
    try:
        figures = [_whole(store, base, rescue), rescue.memory()]
        change_image(image, _CHANGED_FRACTION, seed=1)
        middle = _import(store, image, base)
        change_image(image, _CHANGED_FRACTION, seed=2)
        newest = _import(store, image, middle)
        figures.append(_since(store, newest, base, rescue))
    finally:
        rescue.stop()
    run_command([*_STORE, "compare", store.root, newest.point_id, 0, rescue.disk])
    return figures


def _import(store: Store, image: Path, parent: Manifest | None = None) -> Manifest:
    command = [*_STORE, "import", store.root, "--machine", "bench", image]
    command += ["--parent", parent.point_id] if parent else []
    point = store.find_point(run_command(command).output.split()[-1])
    assert point is not None
    return point


def _whole(store: Store, point: Manifest, rescue: "_Rescue") -> Figure:
    """Measure a restore, inflating alone and writing alone; the peers twice, the better counts."""
    vmdk = store.get_folder(point.machine_id, point.point_id) / point.disk(0).file
    scratch = rescue.disk.with_name("scratch.raw")
    with store.plan_restore(point.machine_id, point.point_id, 0) as plan:
        data_bytes = plan.grains * GRAIN_BYTES
        inflating = [_inflating_alone(vmdk)]
        writing = [_writing_alone(plan, scratch)]
        started = time.monotonic()
        rescue.client().restore_disk(0, plan, point.point_id)
        seconds = time.monotonic() - started
        inflating.append(_inflating_alone(vmdk))
        writing.append(_writing_alone(plan, scratch))
    rate, inflate_rate, write_rate = (
        data_bytes / each / 1e6 for each in (seconds, min(inflating), min(writing))
    )
    slower_rate, slower = min(
        (inflate_rate, f"inflating with isal alone, {_THREADS} threads"),
        (write_rate, f"writing alone, {_THREADS} threads"),
    )
    return Figure(
        f"Restore of a base image through the agent over TLS (inflating {inflate_rate:,.0f},"
        f" writing {write_rate:,.0f} MB/s)",
        rate,
        slower,
        slower_rate,
        "MB/s",
        rate / slower_rate,
        "≥ 0.6 ×",
        rate >= 0.6 * slower_rate,
    )


def _since(store: Store, point: Manifest, since: Manifest, rescue: "_Rescue") -> Figure:
    """Bring the restored disk up to the newest point; count what goes over the wire, both ways."""
    file_bytes = store.bytes_since(point.machine_id, point.point_id, since.point_id)
    link = Link(rescue.port)
    try:
        with store.plan_restore(point.machine_id, point.point_id, 0, since.point_id) as plan:
            client = rescue.client(link.port)
            started = time.monotonic()
            client.restore_disk(0, plan, point.point_id, since.point_id)
            seconds = time.monotonic() - started
    finally:
        link.close()
    return at_most(
        f"Bytes on the wire to restore after twice 1 % in random 4 KiB writes ({seconds:.1f} s)",
        (link.sent_bytes + link.received_bytes) / 1e6,
        "the changed points' files",
        file_bytes / 1e6,
        "MB",
        1.05,
    )


class _Rescue:
    """A rescue agent with one blank disk, paired with this process."""

    def __init__(self, work: Path, capacity_bytes: int) -> None:
        self.disk = work / "restored.raw"
        with self.disk.open("wb") as file:
            file.truncate(capacity_bytes)
        configuration = work / "agent.json"
        configuration.write_text(
            json.dumps(
                {
                    "mode": "restore",
                    "address": "127.0.0.1",
                    "port": 0,
                    "pairing_code": _CODE,
                    "provider": "file",
                    "disks": [{"key": "disk", "path": str(self.disk)}],
                    "state_folder": str(work / "state"),
                }
            )
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agent", "restore", "--configuration", str(configuration)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self.port = self._read_port()
            self._credentials = _make_credentials(work)
            self._paired = pair_with_agent(
                "127.0.0.1", self.port, _CODE, self._credentials, "bench"
            )
        except BaseException:
            self.stop()
            raise

    def client(self, port: int | None = None) -> AgentClient:
        return AgentClient(
            "127.0.0.1", port or self.port, self._credentials, self._paired.certificate_pem
        )

    def memory(self) -> Figure:
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peak_bytes = int(line.split()[1]) * 1024
                return at_most(
                    "Memory of the rescue agent", peak_bytes / 1e6, "limit", 250, "MB", 1
                )
        raise RuntimeError("the kernel does not tell the agent's peak memory")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(_LIMIT_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read_port(self) -> int:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            for word in line.split():
                if word.startswith("port="):
                    return int(word.removeprefix("port="))
        raise RuntimeError("the rescue agent ended before it named its port")


def _make_credentials(work: Path) -> CoreCredentials:
    credentials = CoreCredentials(work / "core.pem", work / "core.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=bench"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2"]
    command += ["-keyout", str(credentials.key_path), "-out", str(credentials.certificate_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=_LIMIT_SECONDS)
    return credentials


def _inflating_alone(vmdk: Path) -> float:
    """Return the seconds to read a stream and inflate each grain with isal, nothing else."""

    def inflate_all(grains: list[memoryview]) -> None:
        for grain in grains:
            isal_zlib.decompress(grain)

    started = time.monotonic()
    with vmdk.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        _in_threads(inflate_all, _batches(memoryview(content)))
    return time.monotonic() - started


def _batches(stream: memoryview) -> Iterator[list[memoryview]]:
    """Yield the compressed grains of a stream, some at a time."""
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


def _writing_alone(plan: RestorePlan, path: Path) -> float:
    """Return the seconds to write as many bytes to the same places of a new file, and sync it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    def write(run: RestoreRun) -> None:
        os.pwritev(fd, [_ZERO_GRAIN] * len(run.compressed), run.first_grain * GRAIN_BYTES)

    try:
        os.ftruncate(fd, plan.capacity_bytes)
        started = time.monotonic()
        _in_threads(write, plan.read_runs())
        os.fsync(fd)
        return time.monotonic() - started
    finally:
        os.close(fd)
        path.unlink()


def _in_threads(act: Callable[[_Work], object], work: Iterable[_Work]) -> None:
    pending: deque[Future[object]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for each in work:
            pending.append(pool.submit(act, each))
            if len(pending) >= _IN_FLIGHT:
                pending.popleft().result()
        while pending:
            pending.popleft().result()
