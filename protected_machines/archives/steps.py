"""Archive a machine's recovery points: the check before it starts, and the step functions.

The functions take ids and plain choices and know no job, so that archives and seed drives share
them.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from console.findings import Finding, has_errors
from console.jobs.report import Report
from console.jobs.workflow import StepFailed
from protected_machines.archives.folder import FolderSurvey, check_new_archive, survey_folder
from protected_machines.points.store import open_store
from recovery_store.archiving import archive, withdraw
from recovery_store.errors import ChainFault, StoreError
from recovery_store.folders import ensure_folder
from recovery_store.inventory import Inventory
from recovery_store.manifest import Manifest
from recovery_store.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArchiveCheck:
    """What was found about copying points to a folder."""

    folder: Path
    findings: Sequence[Finding]
    point_count: int = 0
    needed_bytes: int = 0
    free_bytes: int = 0

    @property
    def has_errors(self) -> bool:
        return has_errors(self.findings)


@dataclass(frozen=True)
class FolderInventory:
    """What was at the folder before the job copied anything there."""

    path: Path
    # The folder's file system, or that of its parent if it is new.
    device: int
    is_new: bool
    # The machine's points that were there already.
    kept_point_ids: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        """Return it as the output of a step."""
        return {
            "path": str(self.path),
            "device": self.device,
            "is_new": self.is_new,
            "kept_point_ids": sorted(self.kept_point_ids),
        }

    @classmethod
    def from_json(cls, output: Mapping[str, Any]) -> Self:
        """Read the output of a step again."""
        return cls(
            Path(output["path"]),
            output["device"],
            output["is_new"],
            frozenset(output["kept_point_ids"]),
        )


def points_to_archive(machine_id: UUID | str, point_id: UUID | str | None) -> list[Manifest]:
    """Return the point's chain, the point last; without an id, all points of the machine.

    Raises:
        PointMissing, ChainBroken: the store does not hold all of them.
    """
    store = open_store()
    if point_id is None:
        return store.points(str(machine_id))
    return store.chain(str(machine_id), str(point_id))


def missing_bytes(survey: FolderSurvey, points: Sequence[Manifest]) -> int:
    """Return how many bytes of the points are not in the archive there yet."""
    held = Inventory(survey.path)
    return sum(
        point.stored_bytes
        for point in points
        if not (survey.is_archive and point.point_id in held.folders(point.machine_id))
    )


def check_archive(survey: FolderSurvey, points: Sequence[Manifest]) -> ArchiveCheck:
    """Return what was found about copying these points there."""
    needed_bytes = missing_bytes(survey, points)
    findings = check_new_archive(survey, needed_bytes)
    if not has_errors(findings) and not needed_bytes:
        text = "The archive already contains all of this."
        findings.append(Finding.warning("ARCHIVE-NOTHING-NEW", text))
    return ArchiveCheck(survey.path, findings, len(points), needed_bytes, survey.free_bytes)


def take_inventory(
    machine_id: UUID | str, point_id: UUID | str | None, folder: str
) -> FolderInventory:
    """Check that the points can be copied to the folder, and return what is there beforehand.

    Fails with ARCHIVE-… as in the dialog; STORE-POINT-MISSING, STORE-CHAIN-BROKEN.
    """
    points = points_to_archive(machine_id, point_id)
    survey = survey_folder(folder)
    for finding in check_archive(survey, points).findings:
        if finding.is_error:
            raise StepFailed(finding.code, finding.text)
    held = Inventory(survey.path).folders(str(machine_id)) if survey.is_archive else {}
    return FolderInventory(survey.path, survey.device, not survey.is_there, frozenset(held))


def make_folder(inventory: FolderInventory) -> None:
    """Create the archive's folder, on the disk that the inventory was taken of.

    Fails with ARCHIVE-DISK-GONE, ARCHIVE-NOT-WRITABLE.
    """
    path = inventory.path
    if not _is_on(path.parent if inventory.is_new else path, inventory.device):
        raise _disk_gone(path)
    try:
        ensure_folder(path)
    except OSError as error:
        raise _not_writable(path, error) from error


def undo_make_folder(machine_id: UUID | str, inventory: FolderInventory) -> None:
    """Remove what this job copied, and the folder if this job created it.

    If the disk has been removed, it keeps what was copied: complete points.
    """
    path = inventory.path
    if not _is_on(path, inventory.device):
        logger.warning("archive not removed machine_id=%s folder=%s", machine_id, path)
        return
    with _watching(inventory):
        there = Store(path, reserve_bytes=0)
        # A half-copied point is not listed there, but the store here lists it.
        copied = {*there.folders(str(machine_id)), *open_store().folders(str(machine_id))}
        withdraw(there, str(machine_id), copied - inventory.kept_point_ids)
        if inventory.is_new:
            with suppress(OSError):
                path.rmdir()


def copy_points(
    machine_id: UUID | str,
    point_id: UUID | str | None,
    inventory: FolderInventory,
    report: Report,
) -> dict[str, Any]:
    """Copy the points that the archive lacks, and prove every byte there.

    Idempotent: complete points stay, and a half-copied file is continued.
    Fails with STORE-CHAIN-… naming the file and the good points, STORE-FULL, ARCHIVE-DISK-GONE.
    """

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        report.check_cancel()
        check_disk(inventory)
        report.progress(done_bytes, total_bytes)

    wanted = None if point_id is None else str(point_id)
    with _watching(inventory), naming_good_points(machine_id):
        check_disk(inventory)
        ids = archive(open_store(), str(machine_id), inventory.path, wanted, on_progress)
    return {"points": len(ids), "newest_point_id": ids[-1]}


def check_disk(inventory: FolderInventory) -> None:
    """Check that the disk is still there.

    Raises:
        StepFailed: the folder is on another file system now, or is gone.
    """
    if not _is_on(inventory.path, inventory.device):
        raise _disk_gone(inventory.path)


@contextmanager
def naming_good_points(machine_id: UUID | str) -> Iterator[None]:
    """Have the error for a missing or damaged file say which points can still be used."""
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
def _watching(inventory: FolderInventory) -> Iterator[None]:
    """Tell a removed disk from one that reports an error."""
    try:
        yield
    except (StoreError, OSError) as error:
        check_disk(inventory)
        if isinstance(error, StoreError):
            raise
        raise _not_writable(inventory.path, error) from error


def _is_on(path: Path, device: int) -> bool:
    try:
        return path.stat().st_dev == device
    except OSError:
        return False


def _disk_gone(path: Path) -> StepFailed:
    return StepFailed(
        "ARCHIVE-DISK-GONE",
        f"The disk with {path} is no longer there. Reconnect it and start again. Points "
        "that were copied completely are not copied again.",
    )


def _not_writable(path: Path, error: OSError) -> StepFailed:
    return StepFailed("ARCHIVE-NOT-WRITABLE", f"{path} cannot be written: {error.strerror}.")
