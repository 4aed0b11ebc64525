"""What two cores tell each other every few seconds: who owns what, what is paused, what waits."""

import datetime
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import close_old_connections, connection, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from agent.version import VERSION
from console.identity import this_core
from protected_machines.models import Machine
from protected_machines.ownership import OwnershipClaim, record_owner
from replication.errors import ReplicationError
from replication.models import Pairing, ReplicatedMachine
from replication.peers.connection import speaking_with
from replication.seed_drives.drives import note_consumed
from replication.transfer.history import mark_unsent
from replication.transfer.lag import refresh_lag

logger = logging.getLogger(__name__)


def ownership_of(machine: Machine) -> dict[str, Any]:
    """Return who owns a machine, as JSON."""
    return {
        "machine_id": str(machine.pk),
        "machine_name": machine.name,
        "owner_core_id": str(machine.owner_core_id),
        "owner_core_name": machine.owner_core_name,
        "ownership_epoch": machine.ownership_epoch,
        "owned_since": machine.owned_since.isoformat() if machine.owned_since else None,
    }


def status_of(pairing: Pairing) -> dict[str, Any]:
    """Return how this core stands on a pairing; only what differs from the usual is listed."""
    machines = Machine.objects.filter(replications__pairing=pairing)
    status: dict[str, Any] = {
        "core_id": this_core().id,
        "name": this_core().name,
        "version": VERSION,
        "is_paused": pairing.is_paused,
        "paused_machine_ids": [
            str(machine_id)
            for machine_id in pairing.machines.filter(is_paused=True).values_list(
                "machine_id", flat=True
            )
        ],
        "ownership": [ownership_of(machine) for machine in machines.filter(ownership_epoch__gt=1)],
    }
    if pairing.is_outgoing:
        status["behind"] = {
            str(replicated.machine_id): {
                "points": replicated.behind_points,
                "bytes": replicated.behind_bytes,
                "newest_point_at": (
                    replicated.newest_point_at.isoformat() if replicated.newest_point_at else None
                ),
            }
            for replicated in pairing.machines.filter(behind_points__gt=0)
        }
    return status


@transaction.atomic
def record_peer_status(pairing: Pairing, status: dict[str, Any]) -> None:
    """Save what the peer said of itself; ownership only ever moves to a higher epoch."""
    is_paused = bool(status.get("is_paused"))
    name = str(status.get("name") or pairing.peer_name)[:200]
    if (is_paused, name) != (pairing.is_paused_by_peer, pairing.peer_name):
        pairing.is_paused_by_peer, pairing.peer_name = is_paused, name
        pairing.save(update_fields=["is_paused_by_peer", "peer_name"])
    paused_ids = [uuid.UUID(str(found)) for found in status.get("paused_machine_ids", [])]
    machines = pairing.machines.all()
    machines.filter(is_paused_by_peer=True).exclude(machine_id__in=paused_ids).update(
        is_paused_by_peer=False
    )
    machines.filter(is_paused_by_peer=False, machine_id__in=paused_ids).update(
        is_paused_by_peer=True
    )
    for claim in status.get("ownership", []):
        _record_claim(pairing, claim)
    mark_unsent(pairing)
    if not pairing.is_outgoing and "behind" in status:
        _record_behind(pairing, status["behind"])


def _record_claim(pairing: Pairing, claim: dict[str, Any]) -> None:
    if not pairing.machines.filter(machine_id=claim["machine_id"]).exists():
        return
    record_owner(
        claim["machine_id"],
        OwnershipClaim(
            str(claim["owner_core_id"]),
            str(claim["owner_core_name"]),
            int(claim["ownership_epoch"]),
            _time(claim.get("owned_since")) or timezone.now(),
        ),
    )


def _record_behind(pairing: Pairing, behind: dict[str, dict[str, Any]]) -> None:
    known = {str(replicated.machine_id): replicated for replicated in pairing.machines.all()}
    changed: list[ReplicatedMachine] = []
    for machine_id, replicated in known.items():
        told = behind.get(machine_id, {})
        points, waiting_bytes = int(told.get("points") or 0), int(told.get("bytes") or 0)
        newest_at = _time(told.get("newest_point_at")) or replicated.newest_point_at
        before = (replicated.behind_points, replicated.behind_bytes, replicated.newest_point_at)
        if (points, waiting_bytes, newest_at) == before:
            continue
        replicated.behind_points, replicated.behind_bytes = points, waiting_bytes
        replicated.newest_point_at = newest_at
        changed.append(replicated)
    ReplicatedMachine.objects.bulk_update(
        changed, ["behind_points", "behind_bytes", "newest_point_at"], batch_size=500
    )


def _time(text: Any) -> datetime.datetime | None:
    return parse_datetime(text) if isinstance(text, str) else None


_STATUS_ANSWER_SECONDS = 10.0


_STATUS_CONNECT_SECONDS = 3.0


_PARALLEL_PEERS = 8


def refresh_cores() -> None:
    """Exchange status with every peer: reachability, pauses, ownership and lag, both ways."""
    refresh_lag(ReplicatedMachine.objects.outgoing().select_related("machine"))
    pairings = list(Pairing.objects.all())
    if connection.in_atomic_block or len(pairings) < 2:
        for pairing in pairings:
            refresh_core(pairing)
        return
    with ThreadPoolExecutor(_PARALLEL_PEERS) as pool:
        list(pool.map(_refresh_in_thread, pairings))


def refresh_core(pairing: Pairing) -> bool:
    """Exchange status with one peer; return whether it answered. What went wrong is saved."""
    try:
        with speaking_with(
            pairing,
            answer_timeout_seconds=_STATUS_ANSWER_SECONDS,
            connect_timeout_seconds=_STATUS_CONNECT_SECONDS,
        ) as client:
            record_peer_status(pairing, client.send_status(status_of(pairing)))
            note_consumed(pairing, client)
    except ReplicationError as error:
        logger.info("peer not refreshed pairing_id=%s error=%s", pairing.pk, error)
        return False
    return True


def _refresh_in_thread(pairing: Pairing) -> None:
    try:
        refresh_core(pairing)
    finally:
        close_old_connections()
        connection.close()
