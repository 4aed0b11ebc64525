"""What to do when the set-up fails, shown instead of a traceback."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

AGAIN = "Then run the same command again; it continues where it stopped."
# What a program prints when it fails, and what to do about it. The first match counts.
ADVICE = (
    (
        # First, because sudo also complains about the host's name, which does not stop it.
        r"sudoers|a password is required|a terminal is required|may not run sudo",
        f"You may not use sudo. Ask root to do it. {AGAIN}",
    ),
    (
        r"No space left on device|enough free space",
        f"The disk is full. Set-up needs 8 GiB below the checkout and 2 GiB in /tmp. {AGAIN}",
    ),
    (
        r"Could not get lock|Unable to acquire the dpkg|is another process using it",
        f"Another program is installing packages. Wait until it has finished. {AGAIN}",
    ),
    (
        r"Could not resolve|name resolution|Name or service not known|Network is unreachable"
        r"|Failed to establish a new connection|Could not connect|Cannot initiate the connection"
        r"|[Cc]onnection timed out|Connection refused|Max retries exceeded|Failed to fetch"
        r"|from versions: none",
        "No package server can be reached. Set-up downloads from Debian's mirror and PyPI. Check "
        f"the network, http_proxy and https_proxy, /etc/apt and pip's configuration. {AGAIN}",
    ),
    (
        r"Unable to locate package|has no installation candidate",
        "This system's package sources lack a package. Set-up supports Debian 12 (bookworm) and 13 "
        "(trixie), with `main` in /etc/apt.",
    ),
    (
        r"No matching distribution found|requires a different Python",
        "A package is not available for this Python. Use 3.11, 3.12 or 3.13: "
        "make PYTHON=python3.11",
    ),
    (
        r"Permission denied|Read-only file system|Operation not permitted",
        "A file cannot be written. You must own the checkout. If root has run set-up here before, "
        f"chown or delete .venv and .cache. {AGAIN}",
    ),
)


def advise(said: str) -> str:
    """Return what to do about a failure with that output; empty if unknown."""
    return next((text for pattern, text in ADVICE if re.search(pattern, said)), "")


class SetupFailed(Exception):
    """Set-up cannot continue; the text says why, and what to do."""


def refuse_full_disk(folder: Path, needed_bytes: int) -> None:
    """Check the free space first: not every program reports that the disk is full.

    Raises:
        SetupFailed: fewer bytes are free where `folder` is, or will be.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free_bytes = shutil.disk_usage(there).free
    if free_bytes < needed_bytes:
        raise SetupFailed(
            f"{folder} needs {needed_bytes >> 20} MiB, but only {free_bytes >> 20} MiB are free. "
            f"Free up some space. {AGAIN}"
        )


def explain(error: Exception) -> str:
    """Return the message for a failure: what happened, then what to do."""
    if isinstance(error, SetupFailed):
        return str(error)
    advice = advise(str(error))
    return f"{error}\n\n{advice}" if advice else str(error)
