"""What two cores tell each other every few seconds: owners, pauses, and what waits to be sent."""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.utils import timezone
from msgspec import UNSET

from agent.version import VERSION
from console.identity import this_core
from console.isolation import isolate, isolate_each
from protected_machines.models import Machine
from replication.clocks import record_clock
from replication.errors import ReplicationError
from replication.models import Pairing, ReplicatedMachine
from replication.peers import wire
from replication.peers.claims import hear_all
from replication.peers.connection import speaking_with
from replication.peers.fellows import fellows_of, record_fellows, refresh_fellows
from replication.seed_drives.drives import note_consumed
from replication.transfer.history import mark_unsent
from replication.transfer.lag import record_all_behind, refresh_lag

logger = logging.getLogger(__name__)


# Machines that a peer names although this core does not share them with it: there are few.
_UNSHARED_TOLD = 500


def status_of(pairing: Pairing, unshared_ids: Sequence[uuid.UUID] = ()) -> wire.PeerStatus:
    """Return this core's status on a pairing; machines are listed only if something is unusual.

    unshared_ids: further machines, which the peer thinks that it shares with this core.
    """
    core = this_core()
    unusual = Machine.objects.filter(replications__pairing=pairing, ownership_epoch__gt=1)
    ownership = [wire.Ownership.of(machine) for machine in unusual]
    if unshared_ids:
        unshared = Machine.objects.filter(pk__in=unshared_ids[:_UNSHARED_TOLD])
        # The peer knows the ID; it need not learn the name.
        ownership += [
            msgspec.structs.replace(wire.Ownership.of(machine), machine_name="")
            for machine in unshared
        ]
    paused = pairing.machines.filter(is_paused=True)
    return wire.PeerStatus(
        core_id=uuid.UUID(core.id),
        name=core.name,
        version=VERSION,
        is_paused=pairing.is_paused,
        paused_machine_ids=tuple(paused.values_list("machine_id", flat=True)),
        ownership=tuple(ownership),
        now=timezone.now(),
        host_for_machines=settings.UNDERSTUDY_HOST_FOR_MACHINES,
        fellows=fellows_of(pairing) if pairing.is_outgoing else UNSET,
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
def record_peer_status(pairing: Pairing, status: wire.PeerStatus) -> list[uuid.UUID]:
    """Save the peer's status, and hear what it says about owners.

    Returns the machines in it that this core does not share with the peer, but knows.
    """
    if (status.is_paused, status.name) != (pairing.is_paused_by_peer, pairing.peer_name):
        pairing.is_paused_by_peer, pairing.peer_name = status.is_paused, status.name
        pairing.save(update_fields=["is_paused_by_peer", "peer_name"])
    if status.host_for_machines != pairing.peer_host_for_machines:
        pairing.peer_host_for_machines = status.host_for_machines
        pairing.save(update_fields=["peer_host_for_machines"])
        # The agents are told again, with the next replication.
        pairing.machines.update(trusted_at=None)
    was_paused = dict(pairing.machines.values_list("machine_id", "is_paused_by_peer"))
    paused_ids = was_paused.keys() & set(status.paused_machine_ids)
    for is_paused in (True, False):
        changed = [
            machine_id
            for machine_id, was in was_paused.items()
            if was != is_paused and (machine_id in paused_ids) == is_paused
        ]
        if changed:
            pairing.machines.filter(machine_id__in=changed).update(is_paused_by_peer=is_paused)
    unshared_ids = hear_all(pairing, status.ownership, was_paused.keys())
    mark_unsent(pairing)
    if pairing.is_outgoing:
        return unshared_ids
    if isinstance(status.behind, Mapping):
        record_all_behind(pairing, status.behind)
    if status.fellows is not UNSET:
        record_fellows(pairing, status.fellows)
    return unshared_ids


def record_call(pairing: Pairing, status: wire.PeerStatus) -> list[uuid.UUID]:
    """Save the status of a peer that calls this core; returns what `record_peer_status` does."""
    if not pairing.is_reachable:
        # No answer of its own shows its clock; the time that the call took is not known.
        record_clock(pairing, status.now, timezone.now())
    return record_peer_status(pairing, status)


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
    """Exchange status with one peer; return whether it answered. Errors are saved.

    The fellows of a source core are asked too, above all when it does not answer.
    """
    is_answered = _exchange_status(pairing)
    if not pairing.is_outgoing:
        refresh_fellows(pairing)
    return is_answered


def _exchange_status(pairing: Pairing) -> bool:
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
