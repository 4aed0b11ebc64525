"""The rescue medium that this core offers: an ISO file, built by `python -m rescue_medium`."""

import hashlib
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.cache import cache

from rescue_medium.facts import MediumFacts, read_facts


@dataclass(frozen=True)
class OfferedMedium:
    """The file, and what it says about itself."""

    path: Path
    facts: MediumFacts

    @property
    def file_name(self) -> str:
        """The name under which a browser saves it."""
        return f"understudy-rescue-{self.facts.version}.iso"


def medium_path() -> Path:
    """Return where this core looks for the medium."""
    path: Path = settings.UNDERSTUDY_RESCUE_MEDIUM
    return path


def find_medium() -> OfferedMedium | None:
    """Return this core's medium; none if there is no file.

    Raises:
        NotAMedium: the file is not a medium, or cannot be read.
    """
    path = medium_path()
    return OfferedMedium(path, read_facts(path)) if path.exists() else None


def digest_of(path: Path) -> str:
    """Return the file's SHA-256 in hex, computed again only if the file has changed.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        status = path.stat()
        identity = f"{path}|{status.st_ino}|{status.st_size}|{status.st_mtime_ns}"
        key = f"rescue-medium-{hashlib.sha256(identity.encode()).hexdigest()}"
        digest: str | None = cache.get(key)
        if digest is None:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            cache.set(key, digest, timeout=None)
    return digest


def build_command() -> str:
    """Return the command that builds, as root, the medium where this core looks for it."""
    build = (sys.executable, "-m", "rescue_medium", "build", "--output")
    return shlex.join(("env", "-C", str(settings.BASE_DIR), *build, str(medium_path())))
