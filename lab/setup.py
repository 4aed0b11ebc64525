"""`python -m lab setup`: what this computer must have before a lab can run or be tested."""

import os
import shutil
from pathlib import Path

from lab.commands import run_command
from lab.debian import listed

PACKAGE_LIST = Path(__file__).with_name("packages.txt")


def set_up() -> None:
    """Install missing packages, build simulator, guests and medium; quick when all is there."""
    install_packages()
    # Imported now, not before: these may need what was just installed.
    from lab.guest.image import ensure_images
    from lab.rescue.medium import ensure_medium
    from lab.vcsim.process import ensure_binary

    ensure_binary()
    ensure_images()
    ensure_medium()


def wanted_packages() -> list[str]:
    """Return the names in `lab/packages.txt`."""
    return listed(PACKAGE_LIST)


def missing_packages(wanted: list[str]) -> list[str]:
    """Return those of `wanted` that are not installed."""
    installed = run_command("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n")
    names = {line.split()[1] for line in installed.splitlines() if line.startswith("ii")}
    return [name for name in wanted if name not in names]


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
