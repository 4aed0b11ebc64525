"""The receiving side: what a source core may have this core keep, and what is refused.

Every call names the pairing it came over. A machine that this core does not recognise as the
source's own is refused with the owner's name, so that a site that comes back learns it.
"""

import datetime
import logging
import uuid
from contextlib import suppress
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from console.identity import this_core
from protected_machines.choices import MachineKind, PointState
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.ownership import OwnershipClaim, accepts_claim, record_owner
from protected_machines.points.index import MISSING_TEXT, index_point
from protected_machines.points.store import open_store
from recovery_store.errors import OffsetDiffers, PointInUse, PointMissing
from recovery_store.replica import Replica
from replication.errors import (
    OffsetMismatch,
    OwnedElsewhere,
    PeerFaulty,
    PeerPausedReplication,
)
from replication.models import Pairing, ReplicatedMachine
from replication.transfer.lag import note_local_point

logger = logging.getLogger(__name__)


def accept_machine(pairing: Pairing, machine_id: uuid.UUID, sent: dict[str, Any]) -> Machine:
    """Record what the source says of one of its machines; the first time makes the machine.

    Raises:
        OwnedElsewhere: this core knows another owner.
        PeerPausedReplication: an administrator paused it here.
    """
    epoch = int(sent["ownership_epoch"])
    with transaction.atomic():
        machine = Machine.objects.select_for_update().filter(pk=machine_id).first()
        if machine is None:
            machine = _make_machine(pairing, machine_id, sent, epoch)
        elif not accepts_claim(
            str(machine.owner_core_id),
            machine.ownership_epoch,
            str(pairing.peer_core_id),
            epoch,
        ):
            raise owned_elsewhere(machine)
        else:
            _refresh_machine(pairing, machine, sent, epoch)
        replicated, is_new = ReplicatedMachine.objects.get_or_create(
            pairing=pairing, machine=machine
        )
        newest = machine.points.newest_first().first() if is_new else None
        if newest is not None:
            # From an archive or a seed drive that was here before the machine was introduced.
            note_local_point(machine.pk, newest)
            replicated.refresh_from_db()
        _record_lag(replicated, sent)
    _refuse_when_paused(pairing, replicated)
    return machine


def get_replicated_of(pairing: Pairing, machine_id: uuid.UUID) -> ReplicatedMachine:
    """Return a machine on this pairing.

    Raises:
        PeerFaulty: the peer never introduced it.
    """
    replicated = (
        ReplicatedMachine.objects.select_related("machine")
        .filter(pairing=pairing, machine_id=machine_id)
        .first()
    )
    if replicated is None:
        raise PeerFaulty(f"This core knows no machine {machine_id} of {pairing.peer_name}.")
    return replicated


def get_machine_of(pairing: Pairing, machine_id: uuid.UUID) -> Machine:
    """Return a machine that the source of this pairing owns and may send points of.

    Raises:
        PeerFaulty: the source never introduced it.
        OwnedElsewhere: it belongs to another core.
        PeerPausedReplication: an administrator paused it here.
    """
    replicated = get_replicated_of(pairing, machine_id)
    if replicated.machine.owner_core_id != pairing.peer_core_id:
        raise owned_elsewhere(replicated.machine)
    _refuse_when_paused(pairing, replicated)
    return replicated.machine


def missing_points(machine: Machine, point_ids: list[str]) -> list[str]:
    """Return those of the points that this core does not hold, in the order given."""
    # One whose files are gone from this store is lacking, though the index remembers it.
    here = RecoveryPoint.objects.filter(machine=machine).exclude(damage_text=MISSING_TEXT)
    held = {str(point_id) for point_id in here.values_list("pk", flat=True)}
    return [point_id for point_id in point_ids if point_id not in held]


def begin_replica(pairing: Pairing, machine: Machine, manifest_bytes: bytes) -> dict[str, int]:
    """Make room for a point, or find what an earlier attempt left; say per file what is held.

    Raises:
        StoreError: the manifest is damaged, or its parent is not here.
    """
    replica = open_store().begin_replica(str(machine.pk), manifest_bytes)
    manifest = replica.manifest
    held_bytes = {disk.file: replica.offset_bytes(disk.file) for disk in manifest.disks}
    logger.info(
        "begin replica machine_id=%s point_id=%s pairing_id=%s held_bytes=%s",
        machine.pk,
        manifest.point_id,
        pairing.pk,
        sum(held_bytes.values()),
    )
    return held_bytes


def append_slice(
    machine: Machine, point_id: uuid.UUID, file_name: str, offset_bytes: int, data: bytes
) -> int:
    """Write bytes of an arriving file down; return up to where it is held now.

    Raises:
        OffsetMismatch: the slice does not begin where the file ends here.
        StoreError: no such file, more than its manifest says, or no room.
    """
    replica = _get_replica(machine, point_id)
    try:
        return replica.append(file_name, offset_bytes, data)
    except OffsetDiffers as error:
        raise OffsetMismatch(file_name, error.expected_bytes) from error


def commit_replica(pairing: Pairing, machine: Machine, point_id: uuid.UUID) -> RecoveryPoint:
    """Check every digest of an arrived point, keep it, and index it. Idempotent.

    Raises:
        OwnedElsewhere: this core took the machine over while the point was being checked.
        StoreError: something is damaged; that much of it was dropped.
    """
    replica = _get_replica(machine, point_id)
    was_there = replica.is_complete
    manifest = replica.commit()
    if not was_there:
        _take_back_when_taken_over(pairing, machine, point_id)
    point = index_point(machine, manifest)
    parent = (
        RecoveryPoint.objects.filter(pk=point.parent_id).only("state", "proven_at").first()
        if point.parent_id
        else None
    )
    if point.state == PointState.UNPROVEN and (
        point.parent_id is None or (parent is not None and parent.state == PointState.PROVEN)
    ):
        # Every byte was just compared with its digest, and so was every byte of its parents.
        point.mark_proven()
    now = timezone.now()
    replicated = ReplicatedMachine.objects.get(pairing=pairing, machine=machine)
    replicated.note_synced(manifest.point_id, manifest.taken_at, now)
    ReplicatedMachine.objects.filter(pk=replicated.pk, behind_points__gt=0).update(
        behind_points=F("behind_points") - 1,
        behind_bytes=Greatest(F("behind_bytes") - manifest.stored_bytes, 0),
    )
    logger.info("commit replica machine_id=%s point_id=%s", machine.pk, point_id)
    return point


def _take_back_when_taken_over(pairing: Pairing, machine: Machine, point_id: uuid.UUID) -> None:
    """Remove the point again if a failover began meanwhile: it is no part of that history."""
    try:
        get_machine_of(pairing, machine.pk)
    except OwnedElsewhere:
        # A point that is already somebody's parent stays: it is sound, only late.
        with suppress(PointInUse):
            open_store().delete_point(str(machine.pk), str(point_id))
        raise
    except PeerPausedReplication:
        return


def owned_elsewhere(machine: Machine) -> OwnedElsewhere:
    """Return the refusal that names the machine's owner as this core knows it."""
    return OwnedElsewhere(
        machine.name,
        str(machine.owner_core_id),
        machine.owner_core_name,
        machine.ownership_epoch,
        machine.owned_since,
    )


def _get_replica(machine: Machine, point_id: uuid.UUID) -> Replica:
    try:
        return open_store().get_replica(str(machine.pk), str(point_id))
    except PointMissing as error:
        raise PeerFaulty(
            f"No point {point_id} of {machine.name} is arriving; begin it first."
        ) from error


def _make_machine(
    pairing: Pairing, machine_id: uuid.UUID, sent: dict[str, Any], epoch: int
) -> Machine:
    logger.info("new replicated machine machine_id=%s pairing_id=%s", machine_id, pairing.pk)
    return Machine.objects.create(
        pk=machine_id,
        kind=MachineKind.REPLICATED,
        owner_core_id=pairing.peer_core_id,
        owner_core_name=pairing.peer_name,
        ownership_epoch=epoch,
        owned_since=_time(sent.get("owned_since")) or timezone.now(),
        source_core_id=pairing.peer_core_id,
        **_described(sent),
    )


def _refresh_machine(pairing: Pairing, machine: Machine, sent: dict[str, Any], epoch: int) -> None:
    record_owner(
        machine.pk,
        OwnershipClaim(
            str(pairing.peer_core_id),
            pairing.peer_name,
            epoch,
            _time(sent.get("owned_since")) or timezone.now(),
        ),
    )
    changes = _described(sent)
    if machine.kind != MachineKind.FAILED_BACK:
        # One that failed back stays so until that is committed: its VM is still here.
        changes["kind"] = MachineKind.REPLICATED
    if machine.source_core_id is None:
        changes["source_core_id"] = pairing.peer_core_id
    changed = [name for name, value in changes.items() if getattr(machine, name) != value]
    for name in changed:
        setattr(machine, name, changes[name])
    if changed:
        machine.save(update_fields=changed)
    machine.refresh_from_db(
        fields=["owner_core_id", "owner_core_name", "ownership_epoch", "owned_since"]
    )


def _described(sent: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": str(sent["name"])[:200],
        "host": str(sent.get("host", ""))[:253],
        "port": int(sent.get("port") or 8006),
        "agent_certificate_pem": str(sent.get("agent_certificate_pem", "")),
        "description": sent.get("description") or {},
        "snapshot_interval_seconds": int(sent.get("snapshot_interval_seconds") or 3600),
    }


def _record_lag(replicated: ReplicatedMachine, sent: dict[str, Any]) -> None:
    replicated.newest_point_at = _time(sent.get("newest_point_at")) or replicated.newest_point_at
    replicated.behind_points = int(sent.get("behind_points") or 0)
    replicated.behind_bytes = int(sent.get("behind_bytes") or 0)
    replicated.save(update_fields=["newest_point_at", "behind_points", "behind_bytes"])


def _refuse_when_paused(pairing: Pairing, replicated: ReplicatedMachine) -> None:
    if pairing.is_outgoing:
        # A machine that comes back: what is paused is the sending from here.
        return
    if pairing.is_paused or replicated.is_paused:
        raise PeerPausedReplication(
            f"Replication is paused at {this_core().name}; resume it there under "
            "Incoming Replication."
        )


def _time(text: Any) -> datetime.datetime | None:
    return parse_datetime(text) if isinstance(text, str) else None
