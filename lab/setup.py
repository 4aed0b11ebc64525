"""`python -m lab setup`: what this computer must have before a lab can run or be tested."""

import os
import shutil
from pathlib import Path

from rescue_medium.commands import run_command
from rescue_medium.debian import listed, missing_packages
from rescue_medium.medium import NEEDS_LIST

PACKAGE_LIST = Path(__file__).with_name("packages.txt")


def set_up() -> None:
    """Install missing packages, build simulator, guests and medium; quick when all is there."""
    install_packages()
    # Imported now, not before: these may need what was just installed.
    from lab.guest.image import ensure_images
    from lab.vcsim.process import ensure_binary
    from rescue_medium.medium import ensure_medium

    ensure_binary()
    ensure_images()
    ensure_medium()


def wanted_packages() -> list[str]:
    """Return the names in `lab/packages.txt`, and what building the rescue medium needs."""
    return list(dict.fromkeys((*listed(PACKAGE_LIST), *listed(NEEDS_LIST))))


def install_packages() -> None:
    """Install what is missing with apt; as root, or through sudo."""
    missing = missing_packages(wanted_packages())
    if not missing:
        return
    print(f"Installing Debian packages: {' '.join(missing)}", flush=True)
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    if as_root and not shutil.which("sudo"):
        raise SystemExit(f"As root, run: apt-get install {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = [*as_root, "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    run_command(*apt, "update", limit_seconds=600, environment=environment)
    run_command(
        *(*apt, "install", "--no-install-recommends", *missing),
        limit_seconds=1800,
        environment=environment,
    )
