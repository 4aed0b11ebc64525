"""A base image through the agent over TLS on loopback, compared with only reading and deflating.

The agent is a separate process and serves the image as a disk; this process is the core and keeps
the point in a store. The peer only reads and deflates, with as many threads.
"""

import os
import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.agent_process import running_agent
from benchmarks.disk_image import ensure_disk_image
from benchmarks.figures import Figure, at_most
from recovery_store.store import Store
from recovery_store.vmdk.deflate import deflate
from recovery_store.vmdk.imaging import data_extents

_GRAIN_BYTES = 64 << 10
_READ_BYTES = 1 << 20
_THREADS = 2
_TURNS = 3


def run(work: Path) -> list[Figure]:
    """Measure both in one run, after the image has been read once."""
    image = ensure_disk_image(work.parent)
    _read_and_deflate(image, is_warm_up=True)
    # Alternating, and the best counts, so that other load on this computer affects both.
    alone_runs, agent_runs = [], []
    for turn in range(_TURNS):
        alone_runs.append(_read_and_deflate(image))
        folder = work / str(turn)
        folder.mkdir()
        agent_runs.append(_through_the_agent(folder, image))
        shutil.rmtree(folder)
    alone_seconds = min(alone_runs)
    agent_seconds = min(seconds for seconds, _ in agent_runs)
    peak_bytes = max(peak for _, peak in agent_runs)
    data_bytes = _data_bytes(image)
    rate, alone_rate = data_bytes / agent_seconds / 1e6, data_bytes / alone_seconds / 1e6
    return [
        Figure(
            "Base image through the agent over TLS",
            rate,
            f"reading and deflating with isal alone, {_THREADS} threads",
            alone_rate,
            "MB/s",
            rate / alone_rate,
            "≥ 0.6 ×",
            rate >= 0.6 * alone_rate,
        ),
        at_most("Memory of the agent", peak_bytes / 1e6, "limit", 250, "MB", 1),
    ]


def _read_and_deflate(image: Path, is_warm_up: bool = False) -> float:
    started = time.monotonic()
    descriptor = os.open(image, os.O_RDONLY)

    def work_on(block: tuple[int, int]) -> None:
        data = memoryview(os.pread(descriptor, block[1], block[0]))
        if not is_warm_up:
            for start in range(0, len(data), _GRAIN_BYTES):
                deflate(data[start : start + _GRAIN_BYTES])

    blocks = (
        (place, min(_READ_BYTES, end - place))
        for start, end in data_extents(descriptor)
        for place in range(start, end, _READ_BYTES)
    )
    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(work_on, blocks):
                pass
    finally:
        os.close(descriptor)
    return time.monotonic() - started


def _data_bytes(image: Path) -> int:
    descriptor = os.open(image, os.O_RDONLY)
    try:
        return sum(end - start for start, end in data_extents(descriptor))
    finally:
        os.close(descriptor)


def _through_the_agent(work: Path, image: Path) -> tuple[float, int]:
    """Return the seconds that a base image takes, and the agent's peak memory."""
    with running_agent(work, image) as agent:
        started = time.monotonic()
        with Store(work / "store").begin_point(
            str(uuid.uuid4()), "bench", str(uuid.uuid4()), taken_at=datetime.now(UTC)
        ) as writer:
            result = agent.client.take_snapshot(writer)
            writer.commit(
                result.description.to_json(), result.consistency, str(uuid.uuid4()), "bench", 1
            )
        return time.monotonic() - started, agent.peak_bytes()
