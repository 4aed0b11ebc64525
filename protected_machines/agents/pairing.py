"""Protect a machine: pair with its agent by address and one-time code."""

import logging
from uuid import UUID, uuid4

from django.db import transaction

from agent.client import pair_with_agent
from console.identity import this_core
from protected_machines.agents.connection import core_credentials, own_home
from protected_machines.choices import ConnectionState, MachineKind
from protected_machines.models import Machine

logger = logging.getLogger(__name__)

PAIRING_TIMEOUT_SECONDS = 15.0


def protect_machine(
    *, name: str, host: str, port: int, code: str, interval_seconds: int = 3600
) -> Machine:
    """Pair with the agent and save the machine; the schedule does the rest.

    The row is checked first, so that a name that is taken does not use up the code.

    Raises:
        WrongPairingCode, PairingClosed, AgentUnreachable: see agent/errors.py; nothing is saved.
        ValidationError: the name or the address is already in use, or a value is out of range.
    """
    core = this_core()
    machine = Machine(
        id=uuid4(),
        name=name,
        host=host,
        port=port,
        kind=MachineKind.PROTECTED,
        owner_core_id=UUID(core.id),
        owner_core_name=core.name,
        snapshot_interval_seconds=interval_seconds,
    )
    machine.full_clean()
    paired = pair_with_agent(
        host,
        port,
        code,
        core_credentials(),
        core.name,
        timeout_seconds=PAIRING_TIMEOUT_SECONDS,
        home=own_home(machine.pk),
    )
    machine.agent_certificate_pem = paired.certificate_pem
    machine.description = paired.description.to_json()
    with transaction.atomic():
        machine.save(force_insert=True)
        machine.record_connection(ConnectionState.ONLINE)
    logger.info("protect machine_id=%s host=%s port=%s", machine.pk, host, port)
    return machine
