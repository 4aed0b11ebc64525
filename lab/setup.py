"""`python -m lab setup`: what this computer must have before a lab can run or be tested."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lab.commands import run_command
from lab.guest.image import ensure_images
from lab.places import CACHE, ROOT

PACKAGE_LIST = Path(__file__).with_name("packages.txt")
VCSIM_SOURCES = ROOT / "lab" / "vcsim"


def set_up() -> None:
    """Install missing packages, build the simulator and the guests; quick when all is there."""
    install_packages()
    with _locked(CACHE / "setup.lock"):
        ensure_vcsim()
    ensure_images()


def wanted_packages() -> list[str]:
    """Return the names in `lab/packages.txt`."""
    lines = (line.partition("#")[0].strip() for line in PACKAGE_LIST.read_text().splitlines())
    return [line for line in lines if line]


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


def vcsim_path() -> Path:
    """Return where the simulator built from the present sources is, or will be."""
    digest = hashlib.sha256()
    for source in sorted(VCSIM_SOURCES.rglob("*")):
        if source.is_file():
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return CACHE / "vcsim" / f"vcsim-{digest.hexdigest()[:16]}"


def ensure_vcsim() -> Path:
    """Build the simulator unless it is built, and return its path."""
    binary = vcsim_path()
    if not binary.exists():
        print("Building the vSphere simulator", flush=True)
        run_command("sh", VCSIM_SOURCES / "build.sh", binary, limit_seconds=900)
    return binary


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
