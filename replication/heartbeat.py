"""What two cores tell each other every few seconds: owners, pauses, and what waits to be sent."""

import logging
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from django.db import close_old_connections, connection, transaction
from django.utils import timezone
from msgspec import UNSET

from agent.version import VERSION
from console.identity import this_core
from console.isolation import isolate, isolate_each
from protected_machines.models import Machine
from protected_machines.ownership import record_owner
from replication.clocks import record_clock
from replication.errors import ReplicationError
from replication.models import Pairing, ReplicatedMachine
from replication.peers import wire
from replication.peers.connection import speaking_with
from replication.seed_drives.drives import note_consumed
from replication.transfer.history import mark_unsent
from replication.transfer.lag import record_all_behind, refresh_lag

logger = logging.getLogger(__name__)


def status_of(pairing: Pairing) -> wire.PeerStatus:
    """Return this core's status on a pairing; machines are listed only if something is unusual."""
    core = this_core()
    machines = Machine.objects.filter(replications__pairing=pairing, ownership_epoch__gt=1)
    paused = pairing.machines.filter(is_paused=True)
    return wire.PeerStatus(
        core_id=uuid.UUID(core.id),
        name=core.name,
        version=VERSION,
        is_paused=pairing.is_paused,
        paused_machine_ids=tuple(paused.values_list("machine_id", flat=True)),
        ownership=tuple(wire.Ownership.of(machine) for machine in machines),
        now=timezone.now(),
        behind=_behind_of(pairing) if pairing.is_outgoing else UNSET,
    )


def _behind_of(pairing: Pairing) -> dict[uuid.UUID, wire.Behind | None]:
    return {
        replicated.machine_id: wire.Behind(
            points=replicated.behind_points,
            bytes=replicated.behind_bytes,
            newest_point_at=replicated.newest_point_at,
        )
        for replicated in pairing.machines.filter(behind_points__gt=0)
    }


@transaction.atomic
def record_peer_status(pairing: Pairing, status: wire.PeerStatus) -> None:
    """Save the peer's status; ownership only ever moves to a higher epoch."""
    if (status.is_paused, status.name) != (pairing.is_paused_by_peer, pairing.peer_name):
        pairing.is_paused_by_peer, pairing.peer_name = status.is_paused, status.name
        pairing.save(update_fields=["is_paused_by_peer", "peer_name"])
    machines = pairing.machines.all()
    known_ids = set(machines.values_list("machine_id", flat=True))
    paused_ids = known_ids.intersection(status.paused_machine_ids)
    machines.filter(is_paused_by_peer=True).exclude(machine_id__in=paused_ids).update(
        is_paused_by_peer=False
    )
    machines.filter(is_paused_by_peer=False, machine_id__in=paused_ids).update(
        is_paused_by_peer=True
    )
    for ownership in status.ownership:
        if ownership.machine_id in known_ids:
            record_owner(ownership.machine_id, ownership.claim)
    mark_unsent(pairing)
    if not pairing.is_outgoing and isinstance(status.behind, Mapping):
        record_all_behind(pairing, status.behind)


def record_call(pairing: Pairing, status: wire.PeerStatus) -> None:
    """Save the status of a peer that calls this core."""
    if not pairing.is_reachable:
        # No answer of its own shows its clock; the time that the call took is not known.
        record_clock(pairing, status.now, timezone.now())
    record_peer_status(pairing, status)


_STATUS_ANSWER_SECONDS = 10.0
_STATUS_CONNECT_SECONDS = 3.0
_PARALLEL_PEERS = 8


def refresh_cores() -> None:
    """Exchange status with every peer, both ways: reachability, pauses, ownership and lag."""
    refresh_lag(ReplicatedMachine.objects.outgoing().select_related("machine"))
    pairings = list(Pairing.objects.all())
    if connection.in_atomic_block or len(pairings) < 2:
        isolate_each(pairings, refresh_core, "refresh_cores")
        return
    with ThreadPoolExecutor(_PARALLEL_PEERS) as pool:
        list(pool.map(_refresh_in_thread, pairings))


def refresh_core(pairing: Pairing) -> bool:
    """Exchange status with one peer; return whether it answered. Errors are saved."""
    try:
        with speaking_with(
            pairing,
            answer_timeout_seconds=_STATUS_ANSWER_SECONDS,
            connect_timeout_seconds=_STATUS_CONNECT_SECONDS,
        ) as client:
            asked_at, started = timezone.now(), time.monotonic()
            status = client.send_status(status_of(pairing))
            record_clock(pairing, status.now, asked_at, time.monotonic() - started)
            record_peer_status(pairing, status)
            note_consumed(pairing, client)
    except ReplicationError as error:
        logger.info("peer not refreshed pairing_id=%s error=%s", pairing.pk, error)
        return False
    return True


def _refresh_in_thread(pairing: Pairing) -> None:
    try:
        isolate(pairing, refresh_core, "refresh_cores")
    finally:
        close_old_connections()
        connection.close()
