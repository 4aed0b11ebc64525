"""Have a machine replicated to a target core."""

import logging
import uuid
from contextlib import suppress

from django.db import transaction
from django.utils import timezone

from console.identity import this_core
from console.isolation import isolate_each
from console.jobs.acts import User, start_job
from console.jobs.choices import OPEN
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.ownership import check_owner
from protected_machines.points import hooks
from replication.errors import (
    PairingRefused,
)
from replication.models import Pairing, ReplicatedMachine, ReplicatedMachineQuerySet
from replication.transfer.lag import note_local_point, refresh_lag
from replication.transfer.workflow import ReplicateParams

logger = logging.getLogger(__name__)


def replicate_machine(
    machine: Machine, pairing: Pairing, requested_by: User
) -> tuple[ReplicatedMachine, bool]:
    """Replicate the machine over this pairing from now on; return its row and whether it is new.

    This starts a job that has the agent trust the target core, introduces the machine there and
    sends the existing points.

    Raises:
        NotTheOwner: another core owns the machine.
        PairingRefused: the other core is a source core.
    """
    if not pairing.is_outgoing:
        raise PairingRefused(
            f"{pairing.peer_name} is a source core. A machine can only be replicated to a "
            "target core."
        )
    check_owner(machine)
    with transaction.atomic():
        replicated, is_new = ReplicatedMachine.objects.get_or_create(
            pairing=pairing, machine=machine
        )
        if is_new:
            refresh_lag([replicated])
            try:
                start_replication(replicated, requested_by)
            except JobConflict as error:
                logger.info("replication not started id=%s reason=%s", replicated.pk, error)
    return replicated, is_new


def start_replication(
    replicated: ReplicatedMachine, requested_by: User = None, request_id: uuid.UUID | None = None
) -> Job:
    """Start the job that sends the target the missing points of one machine.

    Raises:
        JobConflict: they are already being sent.
    """
    pairing = replicated.pairing
    return start_job(
        "replicate",
        replicated.pk,
        f"{replicated.machine.name} → {pairing.peer_name}",
        ReplicateParams(replicated_machine_id=replicated.pk),
        requested_by,
        request_id,
    )


def start_replications(
    pairing: Pairing, wanted: ReplicatedMachineQuerySet | None, requested_by: User
) -> list[str]:
    """Start every possible replication of a pairing; return the machines' names."""
    started = []
    rows = pairing.machines.all() if wanted is None else wanted
    rows.update(next_attempt_at=None)
    for replicated in rows.select_related("machine", "pairing"):
        if replicated.is_paused or pairing.is_paused or not _is_sent_from_here(replicated.machine):
            continue
        try:
            start_replication(replicated, requested_by)
        except JobConflict as error:
            logger.info("replication not started id=%s reason=%s", replicated.pk, error)
        started.append(replicated.machine.name)
    return started


_STARTED_PER_RUN = 50


def start_due_replications() -> int:
    """Start a job for every machine whose target lacks points; return how many jobs started."""
    now = timezone.now()
    core_id = this_core().id
    due = ReplicatedMachine.objects.due(now).filter(
        machine__owner_core_id=core_id, machine__claim_core_id=None
    )
    rows = list(due.select_related("machine", "pairing"))
    refresh_lag(rows)
    busy = set(
        Job.objects.filter(kind="replicate", state__in=OPEN).values_list("subject_id", flat=True)
    )
    started = 0

    def start_due(replicated: ReplicatedMachine) -> None:
        nonlocal started
        if started == _STARTED_PER_RUN or replicated.pk in busy:
            return
        if not _has_something_to_send(replicated):
            return
        with suppress(JobConflict):
            start_replication(replicated)
            started += 1

    isolate_each(rows, start_due, "start_due_replications")
    return started


def _is_sent_from_here(machine: Machine) -> bool:
    return machine.is_owned_here and not machine.is_disputed


def _has_something_to_send(replicated: ReplicatedMachine) -> bool:
    return (
        replicated.behind_points > 0
        or replicated.last_synced_at is None
        or replicated.trusted_at is None
        or bool(replicated.error_code)
    )


def replicate_after_point(machine: Machine, point: RecoveryPoint) -> None:
    """Start sending a new point right away, to every target that can be reached."""
    note_local_point(machine.pk, point)
    if not _is_sent_from_here(machine):
        # If the point came from an archive, the machine's owner sends it.
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
            # The open job sends this point before it ends, or the next periodic run does.
            continue


def register_hooks() -> None:
    """Have every new point replicated."""
    hooks.register(replicate_after_point)
