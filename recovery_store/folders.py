"""The folders of a store, and how they change safely: sync, rename, lock, free space.

<store>/machines/<machine id>/
    lock                                    held briefly while `points` changes
    points/<UTC time>-<point id>/           complete points, never changed
    unfinished/<point id>/, replica-<point id>/, gone-<point id>/
    unfinished/<name>.lock                  held by the process that writes there
"""

import errno
import fcntl
import json
import logging
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from .errors import StoreBusy, StoreError, StoreFull, StoreUnusable

log = logging.getLogger(__name__)

_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DEFAULT_RESERVE_BYTES = 256 << 20
_DEFAULT_RESERVE_PERCENT = 2
_LOCK_POLL_SECONDS = 0.05
_REPLICA_PREFIX = "replica-"


def replica_name(point_id: str) -> str:
    """Return the name in `unfinished` under which a point arrives."""
    return f"{_REPLICA_PREFIX}{point_id}"


def is_replica(name: str) -> bool:
    return name.startswith(_REPLICA_PREFIX)


class Space:
    """Keeps the reserve of a store free.

    reserve_bytes: none means 256 MiB, or 2 % of a small file system.
    """

    def __init__(self, root: Path, reserve_bytes: int | None = None) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes

    def check(self, needed_bytes: int, doing: str) -> None:
        """Check that this much fits.

        Raises:
            StoreFull: fewer bytes are free than are needed, with the reserve.
        """
        state = os.statvfs(_nearest_existing(self._root))
        reserve_bytes = self._reserve_bytes
        if reserve_bytes is None:
            total_bytes = state.f_blocks * state.f_frsize
            reserve_bytes = min(
                _DEFAULT_RESERVE_BYTES, total_bytes * _DEFAULT_RESERVE_PERCENT // 100
            )
        free_bytes = state.f_bavail * state.f_frsize
        if free_bytes < needed_bytes + reserve_bytes:
            raise StoreFull(
                f"The store {self._root} is full while {doing}: {free_bytes} bytes are free,"
                f" but {needed_bytes} and a reserve of {reserve_bytes} are needed."
                " Free space there or delete recovery points, then try again"
            )


def _nearest_existing(path: Path) -> Path:
    return next(each for each in (path, *path.absolute().parents) if each.exists())


@contextmanager
def full_store_named(root: Path, doing: str) -> Iterator[None]:
    """Turn system errors about a full or unusable file system into the store's own.

    Raises:
        StoreFull, StoreUnusable: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL_ERRORS:
            raise StoreFull(
                f"The store {root} is full while {doing}: {error.strerror}."
                " Free space there or delete recovery points, then try again"
            ) from error
        raise StoreUnusable(f"The store {root} cannot be used while {doing}: {error}") from error


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; a store on a carried disk is untrusted, so no links and no pipes.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    # O_NONBLOCK, or opening a pipe would wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(fd, "rb")


def sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and sync it; its name still needs `sync_folder`."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def ensure_folder(path: Path) -> None:
    """Create the folder and its parents, each synced in its own parent."""
    if path.is_dir():
        return
    ensure_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


@contextmanager
def machine_lock(machine_folder: Path, timeout_seconds: float = 60) -> Iterator[None]:
    """Hold the right to add and remove points of one machine, for moments only.

    Raises:
        StoreBusy: another process held it for the whole time-out.
    """
    deadline = time.monotonic() + timeout_seconds
    fd = os.open(machine_folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while not _try_flock(fd):
            if time.monotonic() > deadline:
                raise StoreBusy(
                    f"{machine_folder} has been locked by another process for"
                    f" {timeout_seconds:.0f} seconds; try again once that process has finished"
                )
            time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


class WriterLock:
    """The right to write under one name in `unfinished`; it ends with the process that holds it.

    The file says who holds it, but only the kernel's lock on it counts, which survives neither a
    killed process nor a restart.

    Raises:
        StoreBusy: another process holds it; the text says which.
        StoreFull, StoreUnusable: the parent could not be noted in the file.
    """

    def __init__(self, unfinished: Path, name: str, parent_point_id: str | None = None) -> None:
        self._path = unfinished / f"{name}.lock"
        while True:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if not _try_flock(self._fd):
                holder = os.pread(self._fd, 1000, 0).decode(errors="replace")
                os.close(self._fd)
                raise StoreBusy(
                    f"{unfinished / name} is being written by another process: {holder}."
                    " Wait until it has finished"
                )
            # The previous holder may have removed the name between open and lock.
            if _names_same_file(self._path, self._fd):
                break
            os.close(self._fd)
        holder_text = json.dumps(
            {
                "host": socket.gethostname(),
                "process": os.getpid(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
                "parent_point_id": parent_point_id,
            }
        )
        try:
            with full_store_named(unfinished, f"locking {name}"):
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, holder_text.encode(), 0)
        except StoreError:
            # Without a parent the text is only for people, and it must be possible to delete points
            # when the disk is full.
            if parent_point_id is not None:
                os.close(self._fd)
                raise

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def __enter__(self) -> "WriterLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_being_written(unfinished: Path, name: str) -> bool:
    """Return whether a process holds that name now; changes nothing."""
    try:
        fd = os.open(unfinished / f"{name}.lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        return not _try_flock(fd)
    finally:
        os.close(fd)


def held_parents(unfinished: Path) -> dict[str, str]:
    """Return, for each point being written now, parent point id → the name it is written under."""
    parents = {}
    for path in unfinished.glob("*.lock"):
        with suppress(FileNotFoundError, ValueError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                if _try_flock(fd):
                    continue
                parent = json.loads(os.pread(fd, 1000, 0)).get("parent_point_id")
            finally:
                os.close(fd)
            if parent:
                parents[parent] = path.stem
    return parents


def _try_flock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _names_same_file(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
