"""A small file system of its own, for what happens when a disk is full or goes away."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted_tmpfs(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Mount one at a folder that is there; unmounts it, unless the test has.

    Raises:
        CalledProcessError: this process may not mount.
    """
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        if folder.is_mount():
            subprocess.run(["umount", "-l", str(folder)], check=True)
