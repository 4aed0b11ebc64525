"""What is opened or listed below a folder, as the interpreter itself reports it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_EVENTS = ("open", "os.listdir", "os.scandir")
_seen: list[Path] | None = None
_tell: Callable[[Path], object] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is not None and event in _EVENTS and isinstance(arguments[0], str | os.PathLike):
        _seen.append(Path(arguments[0]))
        if _tell is not None:
            _tell(_seen[-1])


sys.addaudithook(_note)  # there is no way to take it back


@contextmanager
def seen_below(root: Path, tell: Callable[[Path], object] | None = None) -> Iterator[list[Path]]:
    """Collect the files and folders below that folder that are opened or listed meanwhile.

    tell: called with each of them, at that moment.
    """
    global _seen, _tell
    found: list[Path] = []

    def tell_of_those_below(path: Path) -> None:
        if tell is not None and path.is_relative_to(root):
            tell(path)

    _seen = everywhere = []
    _tell = tell_of_those_below
    try:
        yield found
    finally:
        _seen = _tell = None
        found += [path.relative_to(root) for path in everywhere if path.is_relative_to(root)]
