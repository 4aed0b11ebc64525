"""An incremental after 1 % of the disk was overwritten in random blocks of 4 KiB."""

import os
import sys
import time
from pathlib import Path

from blake3 import blake3

from benchmarks.disk_image import change_image, copy_image, ensure_disk_image
from benchmarks.figures import Figure, at_most, run_command
from recovery_store.vmdk.deflate import deflate

_GRAIN_BYTES = 64 << 10
_READ_BYTES = 1 << 20
_STORE = [sys.executable, "-m", "recovery_store"]


def run(work: Path) -> list[Figure]:
    """Measure the incremental's time and stored bytes against their lower bounds."""
    before = ensure_disk_image(work.parent)
    image = copy_image(before, work / "disk.raw")
    store = work / "store"
    command = [*_STORE, "import", store, "--machine", "bench"]
    base = run_command([*command, image])
    base_id = base.output.split()[-1]
    change_image(image, 0.01, seed=1)
    os.sync()
    reading_seconds = _read_and_digest(image)
    ours = run_command([*command, "--parent", base_id, image])
    point_id = ours.output.split()[-1]
    stored = sum(
        path.stat().st_size for path in store.glob(f"machines/*/points/*{point_id}/*.vmdk")
    )
    deflated = _deflated_changes(before, image)
    return [
        at_most(
            "Incremental after 1 % in random 4 KiB writes",
            ours.seconds,
            "reading and digesting the disk",
            reading_seconds,
            "s",
            1.5,
        ),
        at_most(
            "Its stored bytes", stored / 1e6, "changed grains deflated", deflated / 1e6, "MB", 1.1
        ),
        at_most("Memory of the incremental", ours.peak_bytes / 1e6, "limit", 250, "MB", 1),
        at_most("Memory of the base image", base.peak_bytes / 1e6, "limit", 250, "MB", 1),
    ]


def _read_and_digest(image: Path) -> float:
    started = time.monotonic()
    with image.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            view = memoryview(data)
            for start in range(0, len(view), _GRAIN_BYTES):
                blake3(view[start : start + _GRAIN_BYTES]).digest()
    return time.monotonic() - started


def _deflated_changes(before: Path, after: Path) -> int:
    total = 0
    with before.open("rb") as old, after.open("rb") as new:
        while grain := new.read(_GRAIN_BYTES):
            if old.read(_GRAIN_BYTES) != grain:
                total += len(deflate(grain))
    return total
