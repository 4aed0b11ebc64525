"""What is opened or listed below a folder, as the interpreter itself reports it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_EVENTS = ("open", "os.listdir", "os.scandir")
_seen: list[Path] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is not None and event in _EVENTS and isinstance(arguments[0], str | os.PathLike):
        _seen.append(Path(arguments[0]))


sys.addaudithook(_note)  # there is no way to take it back


@contextmanager
def seen_below(root: Path) -> Iterator[list[Path]]:
    """Collect the files and folders below that folder that are opened or listed meanwhile."""
    global _seen
    found: list[Path] = []
    _seen = everywhere = []
    try:
        yield found
    finally:
        _seen = None
        found += [path.relative_to(root) for path in everywhere if path.is_relative_to(root)]
