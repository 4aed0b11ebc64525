"""Import an archive's points: what is in it, the findings, and the step functions.

The points keep the owner they were taken under. A machine that this core does not know is added as
"recovery points only"; one that it knows keeps its owner and its kind.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from django.db import transaction

from console.findings import Finding
from console.identity import this_core
from console.jobs.report import Report, at_each_slice
from console.jobs.workflow import StepFailed
from console.wording import bytes_human
from protected_machines.archives.folder import check_archive_to_read, survey_folder
from protected_machines.archives.steps import naming_good_points
from protected_machines.choices import PointState
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points import hooks
from protected_machines.points.index import ensure_machine, index_point
from protected_machines.points.store import open_store
from recovery_store.archiving import consume, withdraw
from recovery_store.errors import StoreError, StoreFull
from recovery_store.inventory import Inventory
from recovery_store.manifest import Manifest

logger = logging.getLogger(__name__)

# How many points are listed in one transaction.
_LOT = 100


@dataclass(frozen=True)
class ArchivedMachine:
    """One machine of an archive, and which of its points this core lacks."""

    machine_id: UUID
    # Oldest first.
    points: Sequence[Manifest]
    new_point_ids: frozenset[str]
    # The machine as this core knows it, if it does.
    machine: Machine | None
    # Texts for points in the archive whose manifest cannot be read.
    unreadable: Sequence[str] = ()
    has_name_of_another: bool = False

    @property
    def name(self) -> str:
        return self.machine.name if self.machine else self.points[-1].machine_name

    @property
    def owner_name(self) -> str:
        return self.points[-1].owner_core_name or "nobody"

    @property
    def newest(self) -> Manifest:
        return self.points[-1]

    @property
    def stored_bytes(self) -> int:
        return sum(point.stored_bytes for point in self.points)

    @property
    def new_bytes(self) -> int:
        return sum(
            point.stored_bytes for point in self.points if point.point_id in self.new_point_ids
        )


@dataclass(frozen=True)
class ArchiveInventory:
    """What the archive holds of a machine that this core lacks."""

    path: Path
    is_machine_known: bool
    # In the order in which they are copied.
    new_point_ids: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as the output of a step."""
        return {
            "path": str(self.path),
            "is_machine_known": self.is_machine_known,
            "point_ids": list(self.new_point_ids),
        }

    @classmethod
    def from_json(cls, output: Mapping[str, Any]) -> Self:
        """Read the output of a step again."""
        return cls(Path(output["path"]), output["is_machine_known"], tuple(output["point_ids"]))


def read_archive(folder: Path) -> list[ArchivedMachine]:
    """Return the machines of an archive that have points, by name.

    Raises:
        StoreUnusable: the archive cannot be read.
    """
    source, store = Inventory(folder), open_store()
    found = []
    for machine_id in source.machine_ids():
        readable, findings = source.readable_points(machine_id)
        points = [point for _, point in readable]
        if not points:
            continue
        here = store.folders(machine_id)
        machine = Machine.objects.filter(pk=machine_id).first()
        found.append(
            ArchivedMachine(
                UUID(machine_id),
                points,
                frozenset(point.point_id for point in points if point.point_id not in here),
                machine,
                tuple(finding.text for finding in findings if finding.point_id not in here),
                machine is None and _is_name_taken(points[-1]),
            )
        )
    return sorted(found, key=lambda each: (each.name, each.machine_id))


def _is_name_taken(newest: Manifest) -> bool:
    """Whether the machine was first protected here and another one has taken its name since."""
    if newest.owner_core_id != this_core().id:
        return False
    return Machine.objects.filter(name=newest.machine_name, source_core_id=None).exists()


def check_import(archived: ArchivedMachine) -> list[Finding]:
    """Return the findings about importing a machine's points, errors first. Pure."""
    findings = []
    if archived.has_name_of_another:
        text = f"Another machine protected here is already named {archived.name}."
        findings.append(Finding.error("IMPORT-NAME-TAKEN", text))
    for text in archived.unreadable:
        findings.append(Finding.warning("IMPORT-DAMAGED", f"Damaged in the archive: {text}."))
    machine = archived.machine
    if machine is not None and archived.newest.ownership_epoch > machine.ownership_epoch:
        text = (
            f"The archive's points were taken by {archived.owner_name} under ownership "
            f"epoch {archived.newest.ownership_epoch}. Here, {machine.owner_core_name} "
            f"owns {machine.name} with epoch {machine.ownership_epoch}. Importing does "
            "not change that."
        )
        findings.append(Finding.warning("IMPORT-OTHER-OWNER", text))
    return findings


def check_room(needed_bytes: int) -> list[Finding]:
    """Return the findings about adding so many bytes to this core's store."""
    try:
        open_store().check_space(needed_bytes, "importing an archive")
    except StoreFull:
        text = (
            f"{bytes_human(needed_bytes)} do not fit into this core's store. Free up space first."
        )
        return [Finding.error("IMPORT-STORE-FULL", text)]
    return []


def take_inventory(
    machine_id: UUID | str, point_id: UUID | str | None, folder: str
) -> ArchiveInventory:
    """Return what the archive holds of the machine that this core lacks.

    Fails with ARCHIVE-… and IMPORT-… as in the dialog; STORE-….
    """
    survey = survey_folder(folder)
    findings = check_archive_to_read(survey)
    here = open_store().folders(str(machine_id))
    points: list[Manifest] = []
    if not findings:
        source = Inventory(survey.path)
        source.check_machine(str(machine_id))
        points = (
            source.points(str(machine_id))
            if point_id is None
            else source.chain(str(machine_id), str(point_id))
        )
        findings = check_room(
            sum(point.stored_bytes for point in points if point.point_id not in here)
        )
    for finding in findings:
        raise StepFailed(finding.code, finding.text)
    return ArchiveInventory(
        survey.path,
        Machine.objects.filter(pk=machine_id).exists(),
        tuple(point.point_id for point in points if point.point_id not in here),
    )


def make_machine(
    machine_id: UUID | str, point_id: UUID | str | None, inventory: ArchiveInventory
) -> None:
    """Add the machine if it is not known, so that its page shows the import.

    Idempotent: the row is found by its id.
    Fails with STORE-MANIFEST-DAMAGED.
    """
    source = Inventory(inventory.path)
    newest = (
        source.points(str(machine_id))[-1]
        if point_id is None
        else source.get_point(str(machine_id), str(point_id))
    )
    ensure_machine(newest)


def undo_make_machine(machine_id: UUID | str, inventory: ArchiveInventory) -> None:
    """Remove the points that this job imported, and the machine if it was not known before."""
    staying = withdraw(open_store(), str(machine_id), inventory.new_point_ids)
    with transaction.atomic():
        gone = set(inventory.new_point_ids) - set(staying)
        RecoveryPoint.objects.filter(machine_id=machine_id, pk__in=gone).delete()
        if not inventory.is_machine_known and not staying:
            Machine.objects.filter(pk=machine_id).delete()


def copy_points(
    machine_id: UUID | str,
    point_id: UUID | str | None,
    inventory: ArchiveInventory,
    report: Report,
) -> dict[str, Any]:
    """Copy the points that this core lacks, and prove every byte here.

    Idempotent: complete points stay, and a half-copied file is continued.
    Fails with STORE-CHAIN-… naming the file and the good points, STORE-FULL, ARCHIVE-NOT-READABLE.
    """
    path = inventory.path
    wanted = None if point_id is None else str(point_id)
    try:
        with naming_good_points(machine_id):
            ids = consume(open_store(), path, at_each_slice(report), str(machine_id), wanted)
    except OSError as error:
        text = f"{path} cannot be read: {error.strerror}."
        raise StepFailed("ARCHIVE-NOT-READABLE", text) from error
    except StoreError as error:
        if path.is_dir():
            raise
        text = f"The disk with {path} is no longer there. Reconnect it and start again."
        raise StepFailed("ARCHIVE-DISK-GONE", text) from error
    return {"point_ids": ids}


def index_points(machine_id: UUID | str, point_ids: Sequence[str]) -> dict[str, Any]:
    """List the points as proven: every byte was compared with its digest on arrival.

    Reads the store first and writes in small lots, so that no other writer of the database waits
    for a store with thousands of points.

    Idempotent: a point that is listed already is left alone.
    Fails with STORE-MANIFEST-DAMAGED.
    """
    store = open_store()
    machine = Machine.objects.get(pk=machine_id)
    for start in range(0, len(point_ids), _LOT):
        lot = point_ids[start : start + _LOT]
        manifests = [store.get_point(str(machine_id), point_id) for point_id in lot]
        with transaction.atomic():
            for manifest in manifests:
                point = index_point(machine, manifest)
                if point.state == PointState.UNPROVEN and _is_parent_proven(point):
                    point.mark_proven()
    known = machine.points.oldest_first().values_list("pk", "parent_id", "ownership_epoch")
    strays = points_beside_history([HistoryPoint(*facts) for facts in known])
    beside = sorted(strays & {UUID(each) for each in point_ids})
    for start in range(0, len(beside), _LOT):
        lot_ids = beside[start : start + _LOT]
        machine.points.filter(pk__in=lot_ids).update(is_carried_on=False)
    newest = RecoveryPoint.objects.filter(pk__in=point_ids).newest_first().first()
    if newest is not None:
        hooks.run_hooks(machine, newest)
    return {"points": len(point_ids)}


def _is_parent_proven(point: RecoveryPoint) -> bool:
    if point.parent_id is None:
        return True
    return RecoveryPoint.objects.proven().filter(pk=point.parent_id).exists()


@dataclass(frozen=True)
class HistoryPoint:
    """What shows where a point belongs in its machine's history."""

    point_id: UUID
    parent_id: UUID | None
    ownership_epoch: int


def points_beside_history(points: Sequence[HistoryPoint]) -> set[UUID]:
    """Return the points, of a machine's oldest first, that are not on the main line. Pure.

    They were taken under an earlier epoch, after the newest point that points of the newest epoch
    build on. If those build on no earlier point, all points are on the main line.
    """
    by_id = {point.point_id: point for point in points}
    places = {point.point_id: place for place, point in enumerate(points)}
    epoch = max((point.ownership_epoch for point in points), default=0)
    forks = []
    for point in points:
        parent = by_id.get(point.parent_id) if point.parent_id else None
        if point.ownership_epoch == epoch and parent and parent.ownership_epoch < epoch:
            forks.append(places[parent.point_id])
    if not forks:
        return set()
    return {
        point.point_id
        for point in points
        if point.ownership_epoch < epoch and places[point.point_id] > max(forks)
    }
