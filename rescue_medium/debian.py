"""Lists of Debian packages, and tar files of their contents."""

import os
from collections.abc import Iterable
from pathlib import Path

from rescue_medium.commands import run_command

SUITE = "bookworm"


def listed(path: Path) -> list[str]:
    """Return the lines of a list file, without comments and empty lines."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def missing_packages(wanted: Iterable[str]) -> list[str]:
    """Return those of `wanted` that are not installed on this computer.

    Raises:
        CommandFailed: this computer does not run Debian.
    """
    installed = run_command("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n")
    names = {line.split()[1] for line in installed.splitlines() if line.startswith("ii")}
    return [name for name in wanted if name not in names]


def ensure_tar(tar: Path, variant: str, packages: Iterable[str], left_out: Iterable[str]) -> Path:
    """Return `tar`; if it is missing, have mmdebstrap download and unpack the packages into it.

    variant: of mmdebstrap: which packages are added, and whether they are installed.
    left_out: patterns of paths that are not unpacked.
    """
    if tar.exists():
        return tar
    tar.parent.mkdir(parents=True, exist_ok=True)
    unfinished = tar.with_name(f".{os.getpid()}-{tar.name}")
    try:
        run_command(
            "mmdebstrap",
            f"--variant={variant}",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            "--skip=check/empty",
            f"--include={','.join(packages)}",
            '--aptopt=APT::Install-Recommends "false"',
            *(f"--dpkgopt=path-exclude=/{pattern}" for pattern in left_out),
            SUITE,
            unfinished,
            limit_seconds=900,
        )
        unfinished.rename(tar)
    finally:
        unfinished.unlink(missing_ok=True)
    return tar
