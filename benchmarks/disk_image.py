"""A realistic disk image for benchmarks: 8 GiB of ext4 with 4 GB of files, and changes to it.

The files are this computer's own programs and libraries, neither zeros nor noise. If there are not
enough, they repeat, each time rotated by another number of bytes, so that no two grains of the disk
are the same.
"""

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

DISK_BYTES = 8 << 30
CONTENT_BYTES = 4_000_000_000
_SOURCES = ("/usr", "/lib", "/opt", "/var/lib", "/etc")
_BLOCK_BYTES = 4096
_LARGEST_FILE_BYTES = 256 << 20
_TURN_BYTES = 1021


def ensure_disk_image(cache: Path) -> Path:
    """Return the image, which is made by the first call. Copy it; do not change it."""
    path = cache / "disk-8GiB.raw"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tree-", dir=cache) as work:
        tree = Path(work) / "tree"
        _fill_tree(tree, CONTENT_BYTES)
        partial = Path(work) / path.name
        subprocess.run(
            ["mke2fs", "-q", "-t", "ext4", "-d", tree, partial, f"{DISK_BYTES >> 10}k"],
            check=True,
        )
        partial.rename(path)
    return path


def copy_image(image: Path, target: Path) -> Path:
    """Copy an image and its holes."""
    subprocess.run(["cp", "--sparse=always", image, target], check=True)
    return target


def change_image(image: Path, fraction: float, seed: int) -> int:
    """Overwrite that fraction of the disk in random blocks of 4 KiB; return their number."""
    rng = random.Random(seed)
    content = _some_content()
    blocks = image.stat().st_size // _BLOCK_BYTES
    count = int(blocks * fraction)
    fd = os.open(image, os.O_WRONLY)
    try:
        for _ in range(count):
            start = rng.randrange(len(content) - _BLOCK_BYTES)
            data = content[start : start + _BLOCK_BYTES]
            os.pwrite(fd, data, rng.randrange(blocks) * _BLOCK_BYTES)
    finally:
        os.close(fd)
    return count


def _fill_tree(tree: Path, wanted_bytes: int) -> None:
    done_bytes = 0
    turn = 0
    while done_bytes < wanted_bytes:
        before = done_bytes
        for source in _files():
            if done_bytes >= wanted_bytes:
                return
            target = tree / f"copy{turn}" / source.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                done_bytes += _put_file(source, target, turn)
            except OSError:
                continue  # files come and go on a running system
        if done_bytes == before:
            raise RuntimeError(f"There are no files to make a disk of in {', '.join(_SOURCES)}")
        turn += 1


def _put_file(source: Path, target: Path, turn: int) -> int:
    if not turn:
        shutil.copyfile(source, target)
    else:
        data = source.read_bytes()
        at = turn * _TURN_BYTES % max(1, len(data))
        target.write_bytes(data[at:] + data[:at])
    return target.stat().st_size


def _files() -> Iterator[Path]:
    for root in _SOURCES:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_symlink() or not path.is_file():
                    continue
                if 0 < path.stat().st_size <= _LARGEST_FILE_BYTES:
                    yield path


def _some_content() -> bytes:
    """Return some megabytes of real files, to overwrite blocks with."""
    parts: list[bytes] = []
    total = 0
    for path in _files():
        try:
            data = path.read_bytes()
        except OSError:
            continue
        if len(data) > 2 * _BLOCK_BYTES:
            parts.append(data[: 1 << 20])
            total += len(parts[-1])
        if total > 32 << 20:
            break
    return b"".join(parts)
