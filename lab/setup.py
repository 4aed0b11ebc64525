"""`python -m lab setup`: what this computer must have before a lab can run or be tested."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.advice import SetupFailed, explain, refuse_full_disk
from rescue_medium.commands import CommandFailed, run_command
from rescue_medium.debian import listed, missing_packages
from rescue_medium.medium import NEEDS_LIST
from rescue_medium.sources import CACHE

PACKAGE_LIST = Path(__file__).with_name("packages.txt")
BUILD_BYTES = 4 << 30
APT = ("apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300")


def set_up() -> None:
    """Install missing packages, build simulator, guests and medium; quick when all is there."""
    install_packages(wanted_packages())
    # Imported now, not before: these may need what was just installed.
    from lab.guest.image import ensure_images, has_images
    from lab.vcsim.process import ensure_binary
    from rescue_medium.medium import ensure_medium, has_medium

    ensure_binary()
    if not (has_images() and has_medium()):
        refuse_full_disk(CACHE, BUILD_BYTES)
    if os.geteuid() != 0 and not (has_images() and has_medium()):
        _build_as_root()
    ensure_images()
    ensure_medium()


def wanted_packages() -> list[str]:
    """Return the names in `lab/packages.txt`, and what building the rescue medium needs."""
    return list(dict.fromkeys((*listed(PACKAGE_LIST), *listed(NEEDS_LIST))))


def install_packages(wanted: Sequence[str]) -> None:
    """Install what is missing with apt; as root, or through sudo.

    Raises:
        SetupFailed: neither is possible; the text has the one line that root must run.
    """
    if not shutil.which("dpkg-query"):
        raise SetupFailed(
            "Set-up installs Debian packages, and there is no dpkg here. Use Debian 12 or 13."
        )
    missing = missing_packages(wanted)
    if not missing:
        return
    later = missing_packages(wanted_packages())
    # All at once, also what only a later step wants: root is asked a single time.
    names = " ".join({**dict.fromkeys(missing), **dict.fromkeys(later)})
    line = f"apt-get install --no-install-recommends {names}"
    if not may_become_root():
        raise SetupFailed(
            "Debian packages are missing, and there is no sudo here. Have root run this line, "
            f"then run the same command again:\n\n    {line}"
        )
    print(f"Installing Debian packages: {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run_command(*as_root(*APT, "update"), limit_seconds=600, environment=environment)
        run_command(
            *as_root(*APT, "install", "--no-install-recommends", *missing),
            limit_seconds=1800,
            environment=environment,
        )
    except CommandFailed as error:
        raise SetupFailed(f"{explain(error)}\n\nWhat root has to run:\n\n    {line}") from error


def may_become_root() -> bool:
    """Tell whether this is root, or sudo is there to ask."""
    return os.geteuid() == 0 or shutil.which("sudo") is not None


def as_root(*words: str) -> list[str]:
    """Return the command as root can run it from here."""
    return list(words) if os.geteuid() == 0 else ["sudo", *words]


def _build_as_root() -> None:
    """Build the machines' disks and the rescue medium, whose files belong to users of theirs."""
    command = (sys.executable, "-m", "lab", "setup")
    if not may_become_root():
        raise SetupFailed(
            "Only root can build the machines' disks, and there is no sudo here. Have root run "
            f"this line in {Path.cwd()}, then run the same command again:\n\n"
            f"    {' '.join(command)}"
        )
    print("Building the machines' disks with sudo", flush=True)
    run_command(*as_root(*command), limit_seconds=3600)
