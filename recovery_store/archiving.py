"""Copy recovery points into an archive, and from an archive into another store.

An archive is an ordinary store, usually on a disk that can be moved. Points are copied as between
two cores: every range is verified on arrival and the whole point again at the end, and a point
either exists completely or not at all. A second run copies only what is missing.
"""

import logging
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from .errors import (
    ChainBroken,
    ChainDamaged,
    OffsetDiffers,
    PointExists,
    PointInUse,
    ReplicaDamaged,
    SourceUnreadable,
    StoreBusy,
    StoreError,
    StoreUnusable,
)
from .folders import WriterLock, ensure_folder, full_store_named, remove_folder, replica_name
from .inventory import Inventory
from .manifest import DiskEntry, Manifest
from .proof import Fault, Progress, prove_files
from .replica import Replica
from .store import Store

log = logging.getLogger(__name__)

_SLICE_BYTES = 8 << 20
# After a power cut, the leftovers of an earlier run may be worthless; a fresh copy is not.
_ATTEMPTS = 3


def archive(
    store: Inventory,
    machine_id: str,
    folder: Path,
    point_id: str | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Copy a machine's points into a folder; return their ids, parents first.

    point_id: copy only this point and the points it builds on; none means all of the machine's.
    progress(done_bytes, total_bytes): may raise to stop the copy; a later run resumes it.

    Raises:
        PointMissing, MachineMissing: the store has no such point or machine.
        ChainBroken, ChainDamaged: a file is missing or damaged; the text names it. Points that
            were already copied stay in the archive.
        StoreUnusable: the folder cannot hold an archive.
        StoreFull, StoreBusy: the archive's disk is full, or another process is writing there.
    """
    store.check_machine(machine_id)
    if folder.resolve() == store.root.resolve():
        raise StoreUnusable(f"{folder} is the store itself; choose another folder for the archive")
    if not folder.parent.is_dir():
        raise StoreUnusable(f"{folder} cannot be created: {folder.parent} does not exist")
    points = None if point_id is None else store.chain(machine_id, point_id)
    # Nothing else needs the space on that disk, so no reserve.
    target = Store(folder, reserve_bytes=0)
    return _copy(store, target, {machine_id: points}, progress)


def consume(
    store: Store,
    folder: Path,
    progress: Progress | None = None,
    machine_id: str | None = None,
    point_id: str | None = None,
) -> list[str]:
    """Copy the points of an archive into a store; return their ids, parents first.

    Points that the store already has are left alone, and are returned too. A parent may be missing
    from the archive if the store has it.

    progress: as in `archive`.
    machine_id: copy only this machine's points; none means all machines in the archive.
    point_id: copy only this point of that machine, and the points it builds on.

    Raises:
        StoreUnusable: the folder is not an archive, or is the store itself.
        MachineMissing, PointMissing: the archive has no such machine or point.
        ChainBroken: a file, or a point that others need, is missing; the text names it, and nothing
            was copied.
        ChainDamaged: a file is damaged; the text names it. Points already copied stay.
        PointExists: the store has a different point with that id.
        StoreFull, StoreBusy: the store is full, or another process is writing there.
    """
    source = Inventory(folder)
    if folder.resolve() == store.root.resolve():
        raise StoreUnusable(f"{folder} is the store itself, not an archive")
    machine_ids = [each for each in source.machine_ids() if source.folders(each)]
    if not machine_ids:
        raise StoreUnusable(f"{folder} is not an archive: it holds no recovery points")
    if machine_id is None:
        return _copy(source, store, dict.fromkeys(machine_ids), progress)
    source.check_machine(machine_id)
    points = None if point_id is None else source.chain(machine_id, point_id)
    return _copy(source, store, {machine_id: points}, progress)


def withdraw(store: Store, machine_id: str, point_ids: Collection[str]) -> list[str]:
    """Remove what a run of `archive` or `consume` has copied, including partial points.

    Ids that are not in the store are ignored. Returns the points that stay because others build on
    them.

    Raises:
        StoreBusy: points of that machine are being copied there now.
    """
    store.check_identity()
    folder = store.root / "machines" / machine_id
    unfinished = folder / "unfinished"
    doing = "removing copied recovery points"
    waiting = [point_id for point_id in store.folders(machine_id) if point_id in point_ids]
    with full_store_named(store.root, doing):
        if not folder.is_dir():
            return []
        ensure_folder(unfinished)
        with WriterLock(unfinished, "copying"):
            for point_id in point_ids:
                piece = unfinished / replica_name(point_id)
                if piece.exists():
                    with WriterLock(unfinished, piece.name):
                        remove_folder(piece)
            waiting = _delete_points(store, machine_id, waiting)
        _remove_when_empty(folder)
    return waiting


def _delete_points(store: Store, machine_id: str, point_ids: list[str]) -> list[str]:
    """Delete points, children before their parents; return those that cannot be."""
    waiting = point_ids
    while waiting:
        in_use = []
        for point_id in reversed(waiting):
            try:
                store.delete_point(machine_id, point_id)
            except PointInUse:
                in_use.append(point_id)
        if len(in_use) == len(waiting):
            break
        waiting = in_use[::-1]
    return waiting


def _remove_when_empty(machine_folder: Path) -> None:
    """Remove the folder of a machine that has no points left."""
    for path in (machine_folder / "points", machine_folder / "unfinished"):
        with suppress(OSError):
            path.rmdir()
    if not any(path.is_dir() for path in machine_folder.iterdir()):
        with suppress(OSError):
            (machine_folder / "lock").unlink(missing_ok=True)
            machine_folder.rmdir()
            machine_folder.parent.rmdir()


def _copy(
    source: Inventory,
    target: Store,
    wanted: dict[str, list[Manifest] | None],
    progress: Progress | None,
) -> list[str]:
    """Copy the wanted points of each machine, or all, after checking that they can be copied."""
    started = time.monotonic()
    doing = f"copying recovery points from {source.root}"
    points = [
        point
        for machine_id, chosen in wanted.items()
        for point in _check_source(source, target, machine_id, chosen)
    ]
    target.check_identity()
    missing = [point for point in points if not _is_there(target, point)]
    total_bytes = sum(point.stored_bytes for point in missing)
    target.check_space(total_bytes, doing)
    with ExitStack() as held:
        for machine_id in wanted:
            unfinished = target.root / "machines" / machine_id / "unfinished"
            with full_store_named(target.root, doing):
                ensure_folder(unfinished)
                held.enter_context(WriterLock(unfinished, "copying"))
        done_bytes = 0
        for point in missing:

            def tell(point_bytes: int, before_bytes: int = done_bytes) -> None:
                if progress is not None:
                    progress(before_bytes + point_bytes, total_bytes)

            _copy_point(source, target, point, tell)
            done_bytes += point.stored_bytes
            tell(0, done_bytes)
    log.info(
        "points copied from=%s to=%s points=%d bytes=%d seconds=%.1f",
        source.root,
        target.root,
        len(missing),
        total_bytes,
        time.monotonic() - started,
    )
    return [point.point_id for point in points]


def _check_source(
    source: Inventory, target: Inventory, machine_id: str, chosen: list[Manifest] | None
) -> list[Manifest]:
    """Return the points to copy, parents first; refuse if anything they need is missing."""
    here = target.folders(machine_id)
    if chosen is None:
        readable, findings = source.readable_points(machine_id)
        chosen = [point for _, point in readable]
        findings = [finding for finding in findings if finding.point_id not in here]
    else:
        findings = []
    known = {*here, *(point.point_id for point in chosen)}
    folders = source.folders(machine_id)
    for point in chosen:
        if point.point_id in here:
            continue
        link = source.check_link(machine_id, point.point_id, None, folders)
        if isinstance(link, Fault):
            findings.append(link)
        if point.parent_point_id not in (None, *known):
            findings.append(
                Fault(
                    "missing",
                    machine_id,
                    point.parent_point_id or "",
                    f"recovery point {point.parent_point_id}, the parent of {point.point_id}, is"
                    f" neither in {source.root} nor in {target.root}",
                )
            )
    if findings:
        good_point_ids = source.complete_point_ids(machine_id)
        raise ChainBroken(_refusal(source, findings), findings, good_point_ids)
    return chosen


def _is_there(target: Store, point: Manifest) -> bool:
    here = target.find_point(point.machine_id, point.point_id)
    if here is None:
        return False
    if here.digest != point.digest:
        raise PointExists(
            f"Recovery point {point.point_id} is already in {target.root}, with different content"
        )
    return True


def _copy_point(
    source: Inventory, target: Store, point: Manifest, tell: Callable[[int], None]
) -> None:
    folder = source.get_folder(point.machine_id, point.point_id)
    for attempt in range(1, _ATTEMPTS + 1):
        replica = target.begin_replica(point.machine_id, point.to_bytes())
        try:
            done_bytes = 0
            for disk in point.disks:
                for offset_bytes in _copy_file(replica, folder / disk.file, disk):
                    tell(done_bytes + offset_bytes)
                done_bytes += disk.file_bytes
            replica.commit()
            return
        except (StoreBusy, OffsetDiffers):
            raise  # another core is sending this point: the partial copy is its work
        except (ReplicaDamaged, SourceUnreadable) as error:
            findings = prove_files([(folder, point)])
            if findings:
                replica.discard()
                good_point_ids = list(target.folders(point.machine_id))
                text = _refusal(source, findings)
                raise ChainDamaged(text, findings, good_point_ids) from error
            if attempt == _ATTEMPTS:
                replica.discard()
                raise
            log.warning("copying again point=%s error=%s", point.point_id, error)
        except StoreError:
            replica.discard()
            raise


def _copy_file(replica: Replica, path: Path, disk: DiskEntry) -> Iterator[int]:
    """Copy the missing part of a file; yield the offset reached."""
    offset_bytes = replica.offset_bytes(disk.file)
    yield offset_bytes
    if offset_bytes == disk.file_bytes:
        return
    buffer = memoryview(bytearray(_SLICE_BYTES))
    fd = _open_regular(path)
    try:
        while offset_bytes < disk.file_bytes:
            wanted = buffer[: disk.file_bytes - offset_bytes]
            try:
                count = os.preadv(fd, [wanted], offset_bytes)
            except OSError as error:
                raise SourceUnreadable(f"{path} cannot be read: {error.strerror}") from error
            if not count:
                raise SourceUnreadable(f"{path} ends at byte {offset_bytes}")
            offset_bytes = replica.append(disk.file, offset_bytes, wanted[:count])
            yield offset_bytes
    finally:
        os.close(fd)


def _open_regular(path: Path) -> int:
    """Open a file of an archive; archives are untrusted, so neither links nor pipes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise SourceUnreadable(f"{path} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SourceUnreadable(f"{path} is not a regular file")
    return fd


def _refusal(source: Inventory, findings: Sequence[Fault]) -> str:
    faults = "; ".join(finding.text for finding in findings)
    return f"Recovery points cannot be copied from {source.root}: {faults}"
