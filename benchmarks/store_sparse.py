"""A disk of 1 TiB with 2 GB of data, compared with a disk of only those 2 GB."""

import os
import sys
from pathlib import Path

from benchmarks.disk_image import ensure_disk_image
from benchmarks.figures import Figure, Run, at_most, run_command

_DISK_BYTES = 1 << 40
_DATA_BYTES = 2_000_000_000
_PIECE_BYTES = 16 << 20
_LIMIT_SECONDS = 60
_STORE = [sys.executable, "-m", "recovery_store"]


def run(work: Path) -> list[Figure]:
    """Measure base image, incremental and export of both disks; they may differ by 60 s."""
    small = _measure(work, "small", spread=1)
    large = _measure(work, "large", spread=_DISK_BYTES // _DATA_BYTES)
    figures = []
    for what in small:
        ours, peer = large[what], small[what]
        more_seconds = ours.seconds - peer.seconds
        figures.append(
            Figure(
                f"{what} of 1 TiB with 2 GB in it",
                ours.seconds,
                "the 2 GB alone",
                peer.seconds,
                "s",
                more_seconds,
                f"≤ {_LIMIT_SECONDS} s more",
                more_seconds <= _LIMIT_SECONDS,
            )
        )
        figures.append(
            at_most(f"Memory: {what} of 1 TiB", ours.peak_bytes / 1e6, "limit", 250, "MB", 1)
        )
    return figures


def _measure(work: Path, name: str, spread: int) -> dict[str, Run]:
    image = work / f"{name}.raw"
    _spread_content(ensure_disk_image(work.parent), image, spread)
    store = work / f"store-{name}"
    command = [*_STORE, "import", store, "--machine", name]
    base = run_command([*command, image])
    base_id = base.output.split()[-1]
    with image.open("r+b") as file:
        file.write(b"one more thing")
    incremental = run_command([*command, "--parent", base_id, image])
    point_id = incremental.output.split()[-1]
    exported = work / f"{name}.vmdk"
    export = run_command([*_STORE, "export", store, point_id, 0, exported])
    exported.unlink()
    image.unlink()
    return {"Base image": base, "Incremental": incremental, "Export": export}


def _spread_content(source: Path, target: Path, spread: int) -> None:
    """Copy 2 GB of the source in pieces, spaced `spread` times their length apart."""
    with source.open("rb") as content, target.open("wb") as file:
        position = done_bytes = 0
        while done_bytes < _DATA_BYTES:
            piece = content.read(_PIECE_BYTES)
            if not piece:
                raise RuntimeError(f"{source} holds less than {_DATA_BYTES} bytes")
            if piece.count(0) > len(piece) // 2:
                continue  # leave holes out
            file.seek(position)
            file.write(piece)
            done_bytes += len(piece)
            position += len(piece) * spread
        file.truncate(_DISK_BYTES if spread > 1 else position)
    os.sync()
