"""What a power cut leaves of a folder: what was synced, and whatever else had luck.

POSIX promises no more. A file holds what it held at its last `fsync`, or nothing; a folder holds
the names of its own last `fsync`. The system may write names earlier, in any order, so a cut is
tried with none of the newer names on disk, with all of them, and with those of one folder.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_SYNCS = ("fsync", "fdatasync")
_CHANGING_CALLS = (*_SYNCS, "rename", "replace", "link", "mkdir", "unlink", "rmdir")

# A number of a file or folder, the same for as long as the platter holds it open.
_Inode = int
# The content of every file, and none for a folder; a folder comes before what is in it.
Tree = dict[Path, bytes | None]


class Platter:
    """What of a folder has reached the disk; what is in it when this is made counts as there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._held: dict[_Inode, int] = {}
        self._contents: dict[_Inode, bytes] = {}
        self._names: dict[_Inode, dict[str, _Inode]] = {}
        for path in [root, *root.rglob("*")]:
            fd = os.open(path, os.O_RDONLY)
            try:
                self._sync(fd)
            finally:
                os.close(fd)

    def cuts(self) -> list[Tree]:
        """Return what a cut at this moment may leave; the last is what a killed process leaves."""
        self._hold_all()
        folders = [inode for inode, fd in self._held.items() if _is_folder(fd)]
        lucky: list[set[_Inode]] = [
            set(),
            *({inode} for inode in folders),
            set(folders),
            set(self._held),
        ]
        cuts: list[Tree] = []
        for each in lucky:
            tree: Tree = {}
            self._collect(tree, Path(), self._root.stat().st_ino, each)
            if tree not in cuts:
                cuts.append(tree)
        return cuts

    @contextmanager
    def recording(self, before_each_change: Callable[[], object]) -> Iterator[None]:
        """Follow this process's syncs; call back before each, and before each change of a name."""
        is_busy = False

        def recorded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal is_busy
                if is_busy:
                    # What is tried on a copy needs no syncs.
                    return None if name in _SYNCS else real(*arguments, **named)
                is_busy = True
                try:
                    before_each_change()
                finally:
                    is_busy = False
                result = real(*arguments, **named)
                if name in _SYNCS:
                    self._sync(arguments[0])
                return result

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in _CHANGING_CALLS:
                patch.setattr(os, name, recorded(name, getattr(os, name)))
            yield

    def _sync(self, fd: int) -> None:
        inode = self._hold(fd)
        if _is_folder(fd):
            self._names[inode] = _names_in(fd)
        else:
            self._contents[inode] = _content_of(self._held[inode])

    def _hold_all(self) -> None:
        for path in self._root.rglob("*"):
            fd = os.open(path, os.O_RDONLY)
            self._hold(fd)
            os.close(fd)

    def _hold(self, fd: int) -> _Inode:
        """Keep it open: as long as it is, nothing else gets its number."""
        inode = os.fstat(fd).st_ino
        if inode not in self._held:
            self._held[inode] = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        return inode

    def _collect(self, tree: Tree, path: Path, inode: _Inode, lucky: set[_Inode]) -> None:
        fd = self._held[inode]
        if not _is_folder(fd):
            tree[path] = _content_of(fd) if inode in lucky else self._contents.get(inode, b"")
            return
        tree[path] = None
        names = _names_in(fd) if inode in lucky else self._names.get(inode, {})
        for name, child in names.items():
            self._collect(tree, path / name, child, lucky)

    def close(self) -> None:
        for fd in self._held.values():
            os.close(fd)


def _is_folder(fd: int) -> bool:
    return os.path.isdir(f"/proc/self/fd/{fd}")  # noqa: PTH112


def _names_in(fd: int) -> dict[str, _Inode]:
    with os.scandir(f"/proc/self/fd/{fd}") as entries:
        return {entry.name: entry.inode() for entry in entries}


def _content_of(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def write_tree(tree: Tree, to: Path) -> Path:
    for path, content in tree.items():
        if content is None:
            (to / path).mkdir()
        else:
            (to / path).write_bytes(content)
    return to
