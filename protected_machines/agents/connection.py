"""Talk to a machine's agent, and record the state of the connection."""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.db.models import Case, F, Q, When
from django.utils import timezone

from agent.client import AgentClient, CoreCredentials, MachineDescription
from agent.errors import (
    AgentCertificateChanged,
    AgentError,
    AgentRefusedCore,
    AgentUnreachable,
    ProtocolBroken,
)
from agent.home import Home
from console.identity import this_core
from console.isolation import isolate, isolate_each
from protected_machines.choices import ConnectionState, MachineKind
from protected_machines.models import Machine

logger = logging.getLogger(__name__)

PING_TIMEOUT_SECONDS = 5.0
# How long an agent may be silent in mid-stream while it freezes file systems and reads disks.
CALL_TIMEOUT_SECONDS = 120.0


def core_credentials() -> CoreCredentials:
    """Return the certificate and key that this core presents to agents."""
    core = this_core()
    return CoreCredentials(core.certificate_path, core.key_path)


def own_home(machine_id: UUID | str) -> Home:
    """Return where the agent of a machine announces itself to this core."""
    return Home(
        settings.UNDERSTUDY_HOST_FOR_MACHINES,
        settings.UNDERSTUDY_CORE_PORT,
        this_core().certificate_pem,
        str(machine_id),
    )


def dial(
    machine: Machine,
    timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    *,
    host: str = "",
    port: int = 0,
) -> AgentClient:
    """Return a client of the machine's agent, which must present the certificate pinned at pairing.

    `host` and `port` replace the machine's own connection details for a machine that is about to
    answer elsewhere.

    Raises:
        AgentUnreachable, AgentCertificateChanged, AgentRefusedCore: see agent/errors.py.
    """
    return AgentClient(
        host or machine.host,
        port or machine.port,
        core_credentials(),
        machine.agent_certificate_pem,
        timeout_seconds=timeout_seconds,
        core_name=this_core().name,
        delegations_pem=list(machine.delegations.values_list("certificate_pem", flat=True)),
        home=own_home(machine.pk),
    )


@contextmanager
def recording_connection(machine: Machine) -> Iterator[None]:
    """Save how a call to the machine's agent went: online, unreachable or not trusted.

    An agent that says something wrong is online, and the machine's page says what was wrong.
    """
    try:
        yield
    except AgentUnreachable as error:
        machine.record_connection(ConnectionState.UNREACHABLE, str(error))
        raise
    except (AgentCertificateChanged, AgentRefusedCore) as error:
        machine.record_connection(ConnectionState.AUTHENTICATION_ERROR, str(error))
        raise
    except ProtocolBroken as error:
        machine.record_connection(ConnectionState.ONLINE, str(error))
        raise
    machine.record_connection(ConnectionState.ONLINE)


def refresh_connection(machine: Machine, timeout_seconds: float = PING_TIMEOUT_SECONDS) -> None:
    """Ask the agent for the description and save the result. Raises no AgentError."""
    try:
        with recording_connection(machine):
            description = dial(machine, timeout_seconds).describe()
    except AgentError as error:
        logger.info("ping machine_id=%s error_code=%s", machine.pk, error.code)
        return
    if description.to_json() != machine.description:
        machine.record_description(description)


@dataclass(frozen=True)
class AnsweringAgent:
    """Where a machine's own agent answers, and how it describes the machine."""

    host: str
    port: int
    description: MachineDescription

    def to_json(self) -> dict[str, Any]:
        """Return it as the output of a step."""
        return {"host": self.host, "port": self.port, "description": self.description.to_json()}

    @classmethod
    def from_json(cls, output: Mapping[str, Any]) -> Self:
        """Read the output of a step again."""
        description = MachineDescription.from_json(output["description"])
        return cls(output["host"], output["port"], description)


def record_address(machine_id: UUID | str, agent: AnsweringAgent) -> None:
    """Save where the machine answers now, and that it is online. Idempotent."""
    now = timezone.now()
    Machine.objects.filter(pk=machine_id).update(
        host=agent.host,
        port=agent.port,
        description=agent.description.to_json(),
        connection_state=ConnectionState.ONLINE,
        connection_error="",
        connection_checked_at=now,
        last_seen_at=now,
    )
    logger.info("record address machine_id=%s host=%s port=%s", machine_id, agent.host, agent.port)


def protect_here(
    machine_id: UUID | str,
    agent: AnsweringAgent,
    *,
    vcenter_id: UUID | str | None = None,
    vm_moid: str = "",
    vm_instance_uuid: str = "",
    vm_name: str = "",
    vm_marker: str = "",
) -> None:
    """Make this core the one that protects the machine at a new address. Idempotent.

    The machine becomes `failed_over` and `online`; its schedule runs here from now on.
    """
    with transaction.atomic():
        Machine.objects.filter(pk=machine_id).update(
            kind=MachineKind.FAILED_OVER,
            vcenter_id=vcenter_id,
            vm_moid=vm_moid,
            vm_instance_uuid=vm_instance_uuid,
            vm_name=vm_name,
            vm_marker=vm_marker,
        )
        record_address(machine_id, agent)
    logger.info("protect here machine_id=%s host=%s port=%s", machine_id, agent.host, agent.port)


# A run asks at most this many agents, those not asked for the longest first.
PINGS_PER_RUN = 100
PARALLEL_PINGS = 8
# An agent that was asked within this time is not asked again.
PING_AGAIN_SECONDS = 20


def refresh_connections(now: datetime | None = None) -> int:
    """Ask the agents that have not been asked for the longest; return how many were asked.

    A run asks a bounded number, however many machines there are.
    """
    now = now or timezone.now()
    # A time ahead of now is from before the clock went back: it counts as none.
    asked_at = Case(When(connection_checked_at__lte=now, then="connection_checked_at"))
    stale = (
        Machine.objects.live()
        .annotate(asked_at=asked_at)
        .filter(Q(asked_at=None) | Q(asked_at__lte=now - timedelta(seconds=PING_AGAIN_SECONDS)))
    )
    machines = list(stale.order_by(F("asked_at").asc(nulls_first=True))[:PINGS_PER_RUN])
    if connection.in_atomic_block or len(machines) < 2:
        isolate_each(machines, refresh_connection, "refresh_connections")
        return len(machines)
    with ThreadPoolExecutor(PARALLEL_PINGS) as pool:
        list(pool.map(_refresh_in_thread, machines))
    return len(machines)


def _refresh_in_thread(machine: Machine) -> None:
    try:
        isolate(machine, refresh_connection, "refresh_connections")
    finally:
        close_old_connections()
        connection.close()
