"""Have a machine replicated to a target core."""

import logging

from django.db import transaction

from console.jobs.acts import User
from console.jobs.errors import JobConflict
from protected_machines.models import Machine
from protected_machines.ownership import check_owner
from replication.errors import PairingRefused
from replication.models import Pairing, ReplicatedMachine
from replication.transfer.lag import refresh_lag
from replication.transfer.sending import start_replication

logger = logging.getLogger(__name__)


def replicate_machine(
    machine: Machine, pairing: Pairing, requested_by: User
) -> tuple[ReplicatedMachine, bool]:
    """Replicate the machine over this pairing from now on; return its row and whether it is new.

    The job that is started has the agent trust the target core, introduces the machine there and
    sends what there is.

    Raises:
        NotTheOwner: another core owns the machine.
        PairingRefused: the pairing leads to this core, not away from it.
    """
    if not pairing.is_outgoing:
        raise PairingRefused(
            f"{pairing.peer_name} replicates to this core; a machine goes only to a target core."
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
