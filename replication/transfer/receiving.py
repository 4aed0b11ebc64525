"""The receiving side: what this core accepts from a source core, and what it rejects.

Every call names the pairing it came over. If this core knows another owner of the machine, it
rejects the call and names that owner, so that a site that comes back learns about it.
"""

import logging
import uuid
from collections.abc import Sequence
from contextlib import suppress

from django.db import transaction
from django.utils import timezone

from console.audit.log import Subject, record
from console.identity import this_core
from protected_machines.agents.delegation import keep_delegation
from protected_machines.choices import KINDS_OWNED_HERE, MachineKind, PointState
from protected_machines.claims import Judgement, OwnershipClaim
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.models.points import arrange_points
from protected_machines.points.index import MISSING_TEXT, check_time, index_point
from protected_machines.points.store import open_store
from recovery_store.errors import OffsetDiffers, PointInUse, PointMissing
from recovery_store.manifest import Manifest
from recovery_store.replica import Replica
from replication.errors import (
    OffsetMismatch,
    OwnedElsewhere,
    PeerFaulty,
    PeerPausedReplication,
)
from replication.models import Pairing, ReplicatedMachine
from replication.peers.claims import hear_from
from replication.peers.wire import Ownership, SentMachine
from replication.transfer.lag import note_arrived, note_local_point, record_behind
from replication.transfer.quota import check_quota

logger = logging.getLogger(__name__)


def accept_machine(pairing: Pairing, machine_id: uuid.UUID, sent: SentMachine) -> Machine:
    """Record what the source core says about one of its machines; the first call creates it here.

    Raises:
        OwnedElsewhere: this core knows another owner.
        PeerFaulty: the peer owns the machine, but states an epoch that cannot be.
        DelegationWrong: the machine is delegated to another core, or by another.
        PeerPausedReplication: an administrator paused it here.
    """
    hear_owner(pairing, machine_id, sent.claim_of(pairing))
    with transaction.atomic():
        machine = Machine.objects.select_for_update().filter(pk=machine_id).first()
        if machine is None:
            machine = _make_machine(pairing, machine_id, sent)
        elif machine.owner_core_id != pairing.peer_core_id:
            raise owned_elsewhere(machine)
        else:
            _refresh_machine(pairing, machine, sent)
        if sent.delegation_pem:
            keep_delegation(machine, sent.delegation_pem, pairing.peer_certificate_pem)
        replicated, is_new = ReplicatedMachine.objects.get_or_create(
            pairing=pairing, machine=machine
        )
        newest = machine.points.newest_first().first() if is_new else None
        if newest is not None:
            # From an archive or a seed drive imported before the machine was introduced.
            note_local_point(machine.pk, newest)
            replicated.refresh_from_db()
        record_behind(replicated, sent.behind)
        _record_fellows(replicated, sent)
    _refuse_when_paused(pairing, replicated)
    return machine


def hear_owner(pairing: Pairing, machine_id: uuid.UUID, claim: OwnershipClaim) -> None:
    """Hear the peer's claim to a machine before anything else that it says about it is believed.

    In a transaction of its own: a dispute is kept although the call is rejected.

    Raises:
        OwnedElsewhere: this core knows another owner.
        PeerFaulty: the peer owns the machine, but states an epoch that cannot be.
    """
    machine = Machine.objects.filter(pk=machine_id).first()
    if machine is None:
        return
    judgement = hear_from(pairing, machine, claim)
    if str(machine.owner_core_id) != claim.owner_core_id:
        raise owned_elsewhere(machine)
    if judgement is Judgement.DISPUTED:
        raise PeerFaulty(
            f"{pairing.peer_name} states ownership epoch {claim.ownership_epoch} for "
            f"{machine.name}; {this_core().name} knows {machine.ownership_epoch}. Someone has to "
            "settle that there."
        )


def _record_fellows(replicated: ReplicatedMachine, sent: SentMachine) -> None:
    told = sorted(
        str(core_id) for core_id in sent.fellow_core_ids if str(core_id) != this_core().id
    )
    if told != replicated.fellow_core_ids:
        replicated.fellow_core_ids = told
        replicated.save(update_fields=["fellow_core_ids"])


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
        raise PeerFaulty(f"This core does not know machine {machine_id} of {pairing.peer_name}.")
    return replicated


def get_machine_of(pairing: Pairing, machine_id: uuid.UUID) -> Machine:
    """Return a machine that the source core of this pairing owns, and whose points it may send.

    Raises:
        PeerFaulty: the source core never introduced it.
        OwnedElsewhere: it belongs to another core.
        PeerPausedReplication: an administrator paused it here.
    """
    replicated = get_replicated_of(pairing, machine_id)
    if replicated.machine.owner_core_id != pairing.peer_core_id:
        raise owned_elsewhere(replicated.machine)
    _refuse_when_paused(pairing, replicated)
    return replicated.machine


def missing_points(machine: Machine, point_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Return those of the points that this core does not hold, in the order given.

    The owner asks with all of its points, oldest first: its order is kept for those held here.
    """
    # A point whose files are gone from this store is missing, though it is still in the index.
    here = RecoveryPoint.objects.filter(machine=machine).exclude(damage_text=MISSING_TEXT)
    held = set(here.values_list("pk", flat=True))
    _follow_order(machine, [point_id for point_id in point_ids if point_id in held])
    return [point_id for point_id in point_ids if point_id not in held]


def _follow_order(machine: Machine, point_ids: Sequence[uuid.UUID]) -> None:
    """Arrange the points as their owner does, if they are arranged differently here."""
    places = dict(machine.points.values_list("pk", "position"))
    here = [places[point_id] for point_id in point_ids if point_id in places]
    if here != sorted(here):
        changed = arrange_points(machine.pk, point_ids)
        logger.info("points arranged machine_id=%s changed=%s", machine.pk, changed)


def begin_replica(pairing: Pairing, machine: Machine, manifest_bytes: bytes) -> dict[str, int]:
    """Begin or resume a point; return how many bytes of each file are already here.

    Raises:
        PeerFaulty: the manifest cannot be indexed here.
        QuotaReached: the source core has filled as much of this core's store as it may.
        StoreError: the manifest is damaged, or the parent is not here.
    """
    check_quota(pairing, _judge(pairing, machine, manifest_bytes))
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


def _judge(pairing: Pairing, machine: Machine, manifest_bytes: bytes) -> Manifest:
    """Reject a point before anything of it is kept, if the index could not take it."""
    manifest = Manifest.from_bytes(manifest_bytes)
    foreign = RecoveryPoint.objects.filter(pk=manifest.point_id).exclude(machine=machine)
    if foreign.exists():
        raise PeerFaulty(
            f"{pairing.peer_name} sent a recovery point of {machine.name} with the id of a point "
            "of another machine."
        )
    try:
        check_time(manifest)
    except ValueError as error:
        raise PeerFaulty(f"{pairing.peer_name} sent a recovery point: {error}.") from error
    if manifest.owner_core_id and not _is_id(manifest.owner_core_id):
        raise PeerFaulty(f"{pairing.peer_name} sent a recovery point whose owner has no valid id.")
    return manifest


def _is_id(text: str) -> bool:
    try:
        return bool(uuid.UUID(text))
    except ValueError:
        return False


def append_slice(
    machine: Machine, point_id: uuid.UUID, file_name: str, offset_bytes: int, data: bytes
) -> int:
    """Append bytes to an arriving file; return how many bytes are here now.

    Raises:
        OffsetMismatch: the slice does not begin where the file ends here.
        StoreError: no such file, more bytes than the manifest says, or no space.
    """
    replica = _get_replica(machine, point_id)
    try:
        return replica.append(file_name, offset_bytes, data)
    except OffsetDiffers as error:
        raise OffsetMismatch(file_name, error.expected_bytes) from error


def commit_replica(pairing: Pairing, machine: Machine, point_id: uuid.UUID) -> RecoveryPoint:
    """Check every digest of an arrived point, keep it, and index it. Idempotent.

    Raises:
        OwnedElsewhere: this core took over the machine while the point was being checked.
        StoreError: something is damaged; the damaged files were dropped.
    """
    replica = _get_replica(machine, point_id)
    was_there = replica.is_complete
    manifest = replica.commit()
    if not was_there:
        _remove_when_taken_over(pairing, machine, point_id)
    point = index_point(machine, manifest)
    parent = (
        RecoveryPoint.objects.filter(pk=point.parent_id).only("state", "proven_at").first()
        if point.parent_id
        else None
    )
    if point.state == PointState.UNPROVEN and (
        point.parent_id is None or (parent is not None and parent.state == PointState.PROVEN)
    ):
        # Every byte has just been compared with its digest, and its parents are proven.
        point.mark_proven()
    now = timezone.now()
    replicated = ReplicatedMachine.objects.get(pairing=pairing, machine=machine)
    replicated.note_synced(manifest.point_id, manifest.taken_at, now)
    note_arrived(replicated, manifest.stored_bytes)
    logger.info("commit replica machine_id=%s point_id=%s", machine.pk, point_id)
    return point


def _remove_when_taken_over(pairing: Pairing, machine: Machine, point_id: uuid.UUID) -> None:
    """Remove the point if a failover has begun in the meantime: it is not part of that history."""
    try:
        get_machine_of(pairing, machine.pk)
    except OwnedElsewhere:
        # A point on which another one already builds stays: it is sound, just late.
        with suppress(PointInUse):
            open_store().delete_point(str(machine.pk), str(point_id))
        raise
    except PeerPausedReplication:
        return


def owned_elsewhere(machine: Machine) -> OwnedElsewhere:
    """Return the error that names the machine's owner as this core knows it."""
    return OwnedElsewhere(machine.name, Ownership.of(machine).claim)


def _get_replica(machine: Machine, point_id: uuid.UUID) -> Replica:
    try:
        return open_store().get_replica(str(machine.pk), str(point_id))
    except PointMissing as error:
        raise PeerFaulty(
            f"Point {point_id} of {machine.name} has not been begun here. Send its manifest first."
        ) from error


def _make_machine(pairing: Pairing, machine_id: uuid.UUID, sent: SentMachine) -> Machine:
    logger.info("new replicated machine machine_id=%s pairing_id=%s", machine_id, pairing.pk)
    claim = sent.claim_of(pairing)
    machine = Machine(
        pk=machine_id,
        kind=MachineKind.REPLICATED,
        owner_core_id=pairing.peer_core_id,
        owner_core_name=claim.owner_core_name,
        ownership_epoch=claim.ownership_epoch,
        owned_since=claim.owned_since,
        source_core_id=pairing.peer_core_id,
    )
    sent.copy_to(machine)
    machine.save(force_insert=True)
    record(
        "core-interface:machine",
        f"{claim.owner_core_name} introduced {machine.name}, which it owns.",
        Subject("machine", str(machine.pk), machine.name),
    )
    return machine


def _refresh_machine(pairing: Pairing, machine: Machine, sent: SentMachine) -> None:
    changed = sent.copy_to(machine)
    if machine.kind not in (
        MachineKind.FAILED_BACK,
        MachineKind.REPLICATED,
        *KINDS_OWNED_HERE,
    ):
        # A machine that failed back stays so until the commit: its VM is still here. Whether one
        # that failed over still runs here although the peer owns it, a person has to settle.
        machine.kind = MachineKind.REPLICATED
        changed.append("kind")
    if machine.source_core_id is None:
        machine.source_core_id = pairing.peer_core_id
        changed.append("source_core_id")
    if changed:
        machine.save(update_fields=changed)


def _refuse_when_paused(pairing: Pairing, replicated: ReplicatedMachine) -> None:
    if pairing.is_outgoing:
        # A machine that comes back: the pause concerns sending from here.
        return
    if pairing.is_paused or replicated.is_paused:
        raise PeerPausedReplication(
            f"Replication is paused on {this_core().name}. Resume it there under Incoming "
            "Replication."
        )
