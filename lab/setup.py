"""`python -m lab setup`: install and build what the lab and the tests need."""

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
    """Install missing packages; build the simulator, guests and medium. Quick if all is there."""
    install_packages(wanted_packages())
    # Imported only now: these may need what was just installed.
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
    """Return the packages in `lab/packages.txt`, and those that the rescue medium's build needs."""
    return list(dict.fromkeys((*listed(PACKAGE_LIST), *listed(NEEDS_LIST))))


def install_packages(wanted: Sequence[str]) -> None:
    """Install what is missing with apt, as root or through sudo.

    Raises:
        SetupFailed: neither is possible; the text has the command for root.
    """
    if not shutil.which("dpkg-query"):
        raise SetupFailed(
            "Set-up installs Debian packages, but dpkg is missing. Use Debian 12 or 13."
        )
    missing = missing_packages(wanted)
    if not missing:
        return
    later = missing_packages(wanted_packages())
    # Including what only a later step needs, so that root is asked once.
    names = " ".join({**dict.fromkeys(missing), **dict.fromkeys(later)})
    line = f"apt-get install --no-install-recommends {names}"
    if not may_become_root():
        raise SetupFailed(
            "Debian packages are missing, and sudo is not installed. Run this as root, then run "
            f"the same command again:\n\n    {line}"
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
        raise SetupFailed(f"{explain(error)}\n\nTo run as root:\n\n    {line}") from error


def may_become_root() -> bool:
    """Tell whether this is root, or sudo is installed."""
    return os.geteuid() == 0 or shutil.which("sudo") is not None


def as_root(*words: str) -> list[str]:
    """Return the command with sudo if this is not root."""
    return list(words) if os.geteuid() == 0 else ["sudo", *words]


def _build_as_root() -> None:
    """Build the machines' disks and the rescue medium, whose files have other owners."""
    command = (sys.executable, "-m", "lab", "setup")
    if not may_become_root():
        raise SetupFailed(
            "Only root can build the machines' disks, and sudo is not installed. Run this as root "
            f"in {Path.cwd()}, then run the same command again:\n\n"
            f"    {' '.join(command)}"
        )
    print("Building the machines' disks with sudo", flush=True)
    run_command(*as_root(*command), limit_seconds=3600)
