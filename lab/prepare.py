"""`python3 -m lab.prepare FOLDER`: create the Python environment that everything else runs in.

The system's own Python runs this before anything is installed. It needs only the standard library,
and an unsupported Python must get far enough to say so.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
NEWEST = (3, 13)
ROOT = Path(__file__).resolve().parent.parent
PIP_SECONDS = 1800
ENVIRONMENT_BYTES = 1 << 30


def unfit_python(version: tuple[int, int]) -> str | None:
    """Return why that version of Python cannot be used; none if it can."""
    if OLDEST <= version <= NEWEST:
        return None
    return (
        f"This is Python {version[0]}.{version[1]}. Understudy needs 3.11, 3.12 or 3.13, which is "
        "python3 on Debian 12 and 13. To use another Python: make PYTHON=python3.12"
    )


def has_venv() -> bool:
    """Tell whether this Python can create environments; Debian packages that separately."""
    try:
        import ensurepip
        import venv
    except ImportError:
        return False
    return bool(ensurepip and venv)


def is_usable(folder: Path) -> bool:
    """Tell whether the environment exists, runs, and has a supported version."""
    code = f"import sys; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
    try:
        return subprocess.run([folder / "bin/python", "-c", code], check=False).returncode == 0
    except OSError:
        return False


def prepare(folder: Path) -> None:
    """Create the environment and install what `requirements-dev.txt` pins, if its hash is right."""
    from lab.advice import refuse_full_disk
    from lab.setup import install_packages
    from rescue_medium.commands import run_command

    if not has_venv():
        install_packages(["python3-venv"])
    if not is_usable(folder):
        refuse_full_disk(folder.absolute(), ENVIRONMENT_BYTES)
        run_command(sys.executable, "-m", "venv", "--clear", folder, limit_seconds=300)
    pip = (folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    pins = ("--require-hashes", "-r", ROOT / "requirements-dev.txt")
    run_command(*pip, *pins, limit_seconds=PIP_SECONDS)


def main() -> None:
    problem = unfit_python((sys.version_info[0], sys.version_info[1]))
    if problem:
        sys.exit(problem)
    from lab.advice import SetupFailed, explain
    from rescue_medium.commands import CommandFailed

    try:
        prepare(Path(sys.argv[1]))
    except (CommandFailed, SetupFailed, OSError) as error:
        sys.exit(explain(error))


if __name__ == "__main__":
    main()
