"""Look at every pairing and every replicated machine and do what is due. May run at any time."""

import logging
from concurrent.futures import ThreadPoolExecutor

from django.db import close_old_connections, connection
from django.utils import timezone

from console.identity import this_core
from console.jobs.choices import OPEN
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points import hooks
from replication import heartbeat
from replication.errors import ReplicationError
from replication.models import Pairing, ReplicatedMachine
from replication.peers.connection import speaking_with
from replication.seed_drives.drives import note_consumed
from replication.transfer.lag import note_local_point, refresh_lag
from replication.transfer.sending import start_replication

logger = logging.getLogger(__name__)

_STATUS_ANSWER_SECONDS = 10.0
_STATUS_CONNECT_SECONDS = 3.0
_PARALLEL_PEERS = 8
_STARTED_PER_RUN = 50


def start_due_replications() -> int:
    """Start a job for every machine whose target lacks points; return how many were started."""
    now = timezone.now()
    core_id = this_core().id
    due = ReplicatedMachine.objects.due(now).filter(machine__owner_core_id=core_id)
    rows = list(due.select_related("machine", "pairing"))
    refresh_lag(rows)
    busy = set(
        Job.objects.filter(kind="replicate", state__in=OPEN).values_list("subject_id", flat=True)
    )
    started = 0
    for replicated in rows:
        if replicated.pk in busy or not _has_something_to_send(replicated):
            continue
        if started == _STARTED_PER_RUN:
            break
        try:
            start_replication(replicated)
        except JobConflict:
            continue
        started += 1
    return started


def _has_something_to_send(replicated: ReplicatedMachine) -> bool:
    return (
        replicated.behind_points > 0
        or replicated.last_synced_at is None
        or replicated.trusted_at is None
        or bool(replicated.error_code)
    )


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
            heartbeat.record_peer_status(pairing, client.send_status(heartbeat.status_of(pairing)))
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


def replicate_after_point(machine: Machine, point: RecoveryPoint) -> None:
    """Start sending a new point at once, to every target that can be reached."""
    note_local_point(machine.pk, point)
    if not machine.is_owned_here:
        # One that came from an archive: whoever owns the machine sends it.
        return
    rows = list(
        ReplicatedMachine.objects.due(timezone.now())
        .filter(machine=machine)
        .select_related("machine", "pairing")
    )
    refresh_lag(rows)
    for replicated in rows:
        try:
            start_replication(replicated)
        except JobConflict:
            # The job that is open sends this point too before it ends, or the next look does.
            continue


def register_hooks() -> None:
    """Have every new point replicated."""
    hooks.register(replicate_after_point)
