"""The project's own files that are copied to a machine or a medium, and their digest."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
# The packages that the agent's installer copies.
AGENT_SOURCES = (ROOT / "agent", ROOT / "recovery_store" / "vmdk")
LEFT_OUT_SOURCES = (ROOT / "agent" / "client",)
PACKAGE_PINS = ROOT / "requirements.txt"


def sources_digest(begin: str, folders: Iterable[Path], files: Iterable[Path]) -> str:
    """Return a digest of `begin`, the files, and all files below the folders except those left out.

    Only what is copied counts: the client stays on the core, so changing it rebuilds nothing.
    """
    digest = hashlib.sha256(begin.encode())
    paths = list(files)
    for folder in folders:
        paths += (path for path in folder.rglob("*") if path.is_file())
    for path in sorted(paths):
        if "__pycache__" not in path.parts and not any(map(path.is_relative_to, LEFT_OUT_SOURCES)):
            digest.update(f"{path.relative_to(ROOT)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
