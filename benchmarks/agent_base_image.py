"""A base image through the agent over TLS on loopback, beside reading and deflating alone.

The agent is a process of its own and serves the image as a disk; this process is the core and
keeps the point in a store. The peer does nothing but read and deflate, with as many threads.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from agent.client import AgentClient, CoreCredentials, pair_with_agent
from benchmarks.disk_image import ensure_disk_image
from benchmarks.figures import Figure, at_most
from recovery_store.store import Store
from recovery_store.vmdk.deflate import deflate
from recovery_store.vmdk.imaging import data_extents

_GRAIN_BYTES = 64 << 10
_READ_BYTES = 1 << 20
_THREADS = 2
_TURNS = 3
_LIMIT_SECONDS = 30
_CODE = "BENCH-CODE-1234"


def run(work: Path) -> list[Figure]:
    """Measure both in one run, after the image has been read once."""
    image = ensure_disk_image(work.parent)
    _read_and_deflate(image, is_warm_up=True)
    # In turns, the best counts: what else this computer does hits both.
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
    """Return the seconds of a base image, and the most memory that the agent held."""
    configuration = work / "agent.json"
    configuration.write_text(
        json.dumps(
            {
                "address": "127.0.0.1",
                "port": 0,
                "pairing_code": _CODE,
                "provider": "file",
                "disks": [{"key": "disk", "path": str(image)}],
                "state_folder": str(work / "state"),
            }
        )
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "serve", "--configuration", str(configuration)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[-1])
        seconds = _take_base_image(work, port)
        return seconds, _peak_bytes(process.pid)
    finally:
        process.kill()
        process.wait(_LIMIT_SECONDS)
        process.stdout.close()


def _take_base_image(work: Path, port: int) -> float:
    credentials = _make_credentials(work)
    paired = pair_with_agent("127.0.0.1", port, _CODE, credentials, "bench")
    client = AgentClient("127.0.0.1", port, credentials, paired.certificate_pem)
    started = time.monotonic()
    with Store(work / "store").begin_point(
        str(uuid.uuid4()), "bench", str(uuid.uuid4()), taken_at=datetime.now(UTC)
    ) as writer:
        result = client.take_snapshot(writer)
        writer.commit(result.description, result.consistency, str(uuid.uuid4()), "bench", 1)
    return time.monotonic() - started


def _make_credentials(work: Path) -> CoreCredentials:
    credentials = CoreCredentials(work / "core.pem", work / "core.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=bench"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2"]
    command += ["-keyout", str(credentials.key_path), "-out", str(credentials.certificate_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=_LIMIT_SECONDS)
    return credentials


def _peak_bytes(process_id: int) -> int:
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell the agent's peak memory")
