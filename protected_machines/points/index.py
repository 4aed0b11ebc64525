"""Keep the table of recovery points in step with the store, which is the truth.

"Unreadable" never means "empty": what cannot be read is reported, and changes nothing.
"""

import logging
from dataclasses import dataclass, field
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from console.identity import this_core
from console.isolation import isolate_each
from protected_machines.choices import MachineKind, PointState
from protected_machines.errors import PointForeign, ProtectedMachinesError
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.errors import StoreError
from recovery_store.manifest import Manifest
from recovery_store.store import Store

logger = logging.getLogger(__name__)

# Of a time that can be shown and reckoned with, wherever it comes from.
YEARS = range(1970, 2200)

MISSING_TEXT = "its manifest is not in the store"


def index_point(machine: Machine, manifest: Manifest, *, is_newest: bool = False) -> RecoveryPoint:
    """Add a complete point of the store to the index. Idempotent.

    is_newest: it was taken just now, so it is newer than the others, whatever its time says.

    Raises:
        ValueError: the manifest belongs to another machine, its owner's id is not an id, or its
            time is centuries off.
        PointForeign: another machine has a point with that id.
    """
    if manifest.machine_id != str(machine.pk):
        raise ValueError(
            f"point {manifest.point_id} is of machine {manifest.machine_id}, not of {machine.pk}"
        )
    check_time(manifest)
    facts = {
        "machine": machine,
        "taken_at": manifest.taken_at,
        "kind": manifest.kind,
        "parent_id": UUID(manifest.parent_point_id) if manifest.parent_point_id else None,
        "ownership_epoch": manifest.ownership_epoch,
        "taken_by_core_id": _core_id(manifest),
        "taken_by_core_name": manifest.owner_core_name or "imported",
        "stored_bytes": manifest.stored_bytes,
        "consistency": manifest.consistency,
        "manifest_digest": manifest.digest,
    }
    if not is_newest:
        # Found again, after the database was lost, it must not hold up the next snapshot.
        facts["indexed_at"] = min(manifest.taken_at, timezone.now())
    with transaction.atomic():
        if is_newest:
            facts["position"] = machine.points.next_position()
        point, _ = RecoveryPoint.objects.get_or_create(pk=UUID(manifest.point_id), defaults=facts)
    if point.machine_id != machine.pk:
        raise PointForeign(
            f"A recovery point of {machine.name} has the id {manifest.point_id}, which is that of "
            f"a point of {point.machine.name}. It is not used."
        )
    if point.state == PointState.DAMAGED and point.damage_text == MISSING_TEXT:
        # It is back. A new proof decides whether it is intact.
        RecoveryPoint.objects.filter(pk=point.pk, damage_text=MISSING_TEXT).update(
            state=PointState.UNPROVEN, damage_text="", proven_at=None
        )
        point.refresh_from_db()
    if point.manifest_digest != manifest.digest:
        point.mark_damaged(
            f"its manifest in the store has the digest {manifest.digest}, "
            f"the index knows {point.manifest_digest}"
        )
    return point


def check_time(manifest: Manifest) -> None:
    """Check that the point's time can be shown and reckoned with.

    Raises:
        ValueError: it is centuries off, so that adding an interval or a time zone might overflow.
    """
    if manifest.taken_at.year not in YEARS:
        raise ValueError(
            f"point {manifest.point_id} is dated {manifest.taken_at:%Y-%m-%d}, which no clock shows"
        )


def _core_id(manifest: Manifest) -> UUID:
    """Return the core that took a point; none for one imported by hand."""
    return UUID(manifest.owner_core_id) if manifest.owner_core_id else UUID(int=0)


@dataclass
class ReindexReport:
    """The result of one comparison of store and index."""

    indexed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def reindex_store(store: Store) -> ReindexReport:
    """Index points that the database does not know, and mark those missing in the store as damaged.

    A machine that only the store knows is added as "recovery points only".
    """
    report = ReindexReport()
    # Read before the store, so that a point committed meanwhile does not count as missing.
    known: dict[str, set[str]] = {}
    for point_id, machine_id in RecoveryPoint.objects.values_list("pk", "machine_id"):
        known.setdefault(str(machine_id), set()).add(str(point_id))
    try:
        store.check_identity()
        on_disk = set(store.machine_ids())
    except (OSError, StoreError) as error:
        report.unreadable.append(f"the store cannot be read: {error}")
        return report
    if not on_disk and known:
        # If points are known but the folder is empty, the store is probably not mounted.
        report.unreadable.append("the store is empty, although points are known")
        return report

    def compare(machine_id: str) -> None:
        try:
            _reindex_machine(store, machine_id, known.get(machine_id, set()), report)
        except (ValueError, ProtectedMachinesError) as error:
            report.unreadable.append(f"machine {machine_id} cannot be indexed: {error}")

    isolate_each(sorted(on_disk | known.keys()), compare, "reindex_store")
    if report.indexed or report.missing or report.unreadable:
        logger.warning(
            "reindex store indexed=%s missing=%s unreadable=%s",
            len(report.indexed),
            report.missing,
            report.unreadable,
        )
    return report


def _reindex_machine(
    store: Store, machine_id: str, known_ids: set[str], report: ReindexReport
) -> None:
    try:
        manifests = {manifest.point_id: manifest for manifest in store.points(machine_id)}
    except (OSError, StoreError) as error:
        report.unreadable.append(f"points of machine {machine_id} cannot be read: {error}")
        return
    new = [manifest for point_id, manifest in manifests.items() if point_id not in known_ids]
    if new:
        machine = ensure_machine(new[-1])
        for manifest in new:
            try:
                index_point(machine, manifest)
            except (ValueError, PointForeign) as error:
                report.unreadable.append(f"point {manifest.point_id} cannot be indexed: {error}")
                continue
            report.indexed.append(manifest.point_id)
    missing = known_ids - manifests.keys()
    for point in RecoveryPoint.objects.filter(pk__in=missing).exclude(damage_text=MISSING_TEXT):
        point.mark_damaged(MISSING_TEXT)
        report.missing.append(str(point.pk))
    returned = RecoveryPoint.objects.filter(
        pk__in=known_ids & manifests.keys(), damage_text=MISSING_TEXT
    )
    for point in returned:
        index_point(point.machine, manifests[str(point.pk)])
        report.indexed.append(str(point.pk))


def ensure_machine(newest: Manifest) -> Machine:
    """Return the machine of a point. An unknown one is added as "recovery points only"."""
    core = this_core()
    machine, _ = Machine.objects.get_or_create(
        pk=UUID(newest.machine_id),
        defaults={
            "name": newest.machine_name[:200],
            "kind": MachineKind.RECOVERY_POINTS_ONLY,
            "description": newest.description,
            "owner_core_id": _core_id(newest),
            "owner_core_name": newest.owner_core_name[:200] or "nobody",
            "ownership_epoch": newest.ownership_epoch,
            # Its time is another clock's, and judged only when the point is indexed.
            "owned_since": min(newest.taken_at, timezone.now()),
            "source_core_id": None if newest.owner_core_id == core.id else _core_id(newest),
        },
    )
    return machine
