"""Archive a machine's recovery points: findings beforehand, and the step functions of it.

The functions take ids and plain choices and know no job, so that an archive and a seed drive share
them.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from console.findings import Finding, has_errors
from console.jobs.report import Report
from console.jobs.workflow import StepFailed
from protected_machines.archives.folder import Place, look_at_place, plan_new_archive
from protected_machines.points.store import open_store
from recovery_store.archiving import archive, withdraw
from recovery_store.errors import ChainFault, StoreError
from recovery_store.folders import ensure_folder
from recovery_store.inventory import Inventory
from recovery_store.manifest import Manifest
from recovery_store.store import Store

logger = logging.getLogger(__name__)


def points_to_archive(machine_id: UUID | str, point_id: UUID | str | None) -> list[Manifest]:
    """Return what a point is made of, the point last; all points of the machine for none.

    Raises:
        PointMissing, ChainBroken: the store does not hold all of it.
    """
    store = open_store()
    if point_id is None:
        return store.points(str(machine_id))
    return store.chain(str(machine_id), str(point_id))


def missing_bytes(place: Place, points: Sequence[Manifest]) -> int:
    """Return how many bytes of the points are not in the archive there yet."""
    held = Inventory(place.path)
    return sum(
        point.stored_bytes
        for point in points
        if not (place.is_archive and point.point_id in held.folders(point.machine_id))
    )


def check_archive(place: Place, points: Sequence[Manifest]) -> list[Finding]:
    """Return the findings about copying these points there."""
    needed_bytes = missing_bytes(place, points)
    findings = plan_new_archive(place, needed_bytes)
    if not has_errors(findings) and not needed_bytes:
        text = "The archive already contains all of this."
        findings.append(Finding.warning("ARCHIVE-NOTHING-NEW", text))
    return findings


def look_at_folder(
    machine_id: UUID | str, point_id: UUID | str | None, folder: str
) -> dict[str, Any]:
    """Look whether the points can be copied to the folder, and note what is there beforehand.

    Fails with ARCHIVE-… as the dialog says beforehand; STORE-POINT-MISSING, STORE-CHAIN-BROKEN.
    """
    points = points_to_archive(machine_id, point_id)
    place = look_at_place(folder)
    for finding in check_archive(place, points):
        if finding.is_error:
            raise StepFailed(finding.code, finding.text)
    here = Inventory(place.path).folders(str(machine_id)) if place.is_archive else {}
    return {
        "path": str(place.path),
        "device": place.device,
        "is_new": not place.is_there,
        "kept_point_ids": sorted(here),
    }


def make_folder(look: dict[str, Any]) -> None:
    """Make the archive's folder, on the disk that was looked at.

    Fails with ARCHIVE-DISK-GONE, ARCHIVE-NOT-WRITABLE.
    """
    path = Path(look["path"])
    if not _is_on(path.parent if look["is_new"] else path, look["device"]):
        raise _disk_gone(path)
    try:
        ensure_folder(path)
    except OSError as error:
        raise _not_writable(path, error) from error


def undo_make_folder(machine_id: UUID | str, look: dict[str, Any]) -> None:
    """Take out what this job copied, and the folder if this job made it.

    On a disk that was removed nothing can be done, and what it holds are whole points.
    """
    path = Path(look["path"])
    if not _is_on(path, look["device"]):
        logger.warning("archive not taken back machine_id=%s folder=%s", machine_id, path)
        return
    with _watching(look):
        there = Store(path, reserve_bytes=0)
        # Half a point is not listed there, but it is one of those here.
        brought = {*there.folders(str(machine_id)), *open_store().folders(str(machine_id))}
        withdraw(there, str(machine_id), brought - set(look["kept_point_ids"]))
        if look["is_new"]:
            with suppress(OSError):
                path.rmdir()


def copy_points(
    machine_id: UUID | str,
    point_id: UUID | str | None,
    look: dict[str, Any],
    report: Report,
) -> dict[str, Any]:
    """Copy the points that the archive lacks; every byte is proven when it is there.

    Idempotent: what is there whole stays, and half a file is continued.
    Fails with STORE-CHAIN-… naming file and good points, STORE-FULL, ARCHIVE-DISK-GONE.
    """

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        report.check_cancel()
        check_disk(look)
        report.progress(done_bytes, total_bytes)

    wanted = None if point_id is None else str(point_id)
    with _watching(look), naming_good_points(machine_id):
        check_disk(look)
        ids = archive(open_store(), str(machine_id), Path(look["path"]), wanted, on_progress)
    return {"points": len(ids), "newest_point_id": ids[-1]}


def check_disk(look: dict[str, Any]) -> None:
    """Refuse to go on when the disk is no longer there.

    Raises:
        StepFailed: another file system is at the folder's place, or none.
    """
    path = Path(look["path"])
    if not _is_on(path, look["device"]):
        raise _disk_gone(path)


@contextmanager
def naming_good_points(machine_id: UUID | str) -> Iterator[None]:
    """Have a refusal for a missing or damaged file say which points can still be used."""
    try:
        yield
    except ChainFault as error:
        good = len(error.good_point_ids)
        rest = (
            f"{good} other recovery points of the machine are intact"
            if good != 1
            else "One other recovery point of the machine is intact"
        )
        newest = f", the newest {error.good_point_ids[-1]}" if good else ""
        raise StepFailed(error.code, f"{error}. {rest}{newest}.") from error


@contextmanager
def _watching(look: dict[str, Any]) -> Iterator[None]:
    """Tell a disk that was removed from one that refuses."""
    try:
        yield
    except (StoreError, OSError) as error:
        check_disk(look)
        if isinstance(error, StoreError):
            raise
        raise _not_writable(Path(look["path"]), error) from error


def _is_on(path: Path, device: int) -> bool:
    try:
        return path.stat().st_dev == device
    except OSError:
        return False


def _disk_gone(path: Path) -> StepFailed:
    return StepFailed(
        "ARCHIVE-DISK-GONE",
        f"The disk with {path} is no longer there. Reconnect it and start again. What was "
        "copied completely is not copied again.",
    )


def _not_writable(path: Path, error: OSError) -> StepFailed:
    return StepFailed("ARCHIVE-NOT-WRITABLE", f"{path} cannot be written: {error.strerror}.")
