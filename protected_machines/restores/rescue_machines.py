"""Rescue machines: pair with one, and talk to its agent."""

import hashlib
import hmac
import logging
from uuid import UUID

from django.utils import timezone

from agent.client import AgentClient, pair_with_agent
from agent.errors import AgentError
from console.identity import this_core
from console.jobs.workflow import StepFailed
from protected_machines.agents import connection
from protected_machines.errors import NotARescueMachine
from protected_machines.models import RestoreTarget

logger = logging.getLogger(__name__)

PAIRING_TIMEOUT_SECONDS = 15.0


def pair_target(host: str, port: int, code: str) -> RestoreTarget:
    """Pair with the rescue agent by the code on its screen. Nothing is written to its disks.

    A second call with the same code returns the same target, although the code has been used up.
    With a new code from its screen, it is paired with again.

    Raises:
        WrongPairingCode, PairingClosed, AgentUnreachable: see agent/errors.py; nothing is saved.
        NotARescueMachine: the machine there runs its own system.
    """
    digest = _digest_of(host, port, code)
    known = RestoreTarget.objects.filter(host=host, port=port).first()
    if (
        known is not None
        and hmac.compare_digest(known.code_digest, digest)
        and still_answers(known)
    ):
        return known
    core = this_core()
    paired = pair_with_agent(
        host,
        port,
        code,
        connection.core_credentials(),
        core.name,
        timeout_seconds=PAIRING_TIMEOUT_SECONDS,
    )
    if not paired.description.is_rescue:
        raise NotARescueMachine(
            f"The machine at {host}:{port} runs its own operating system, not the rescue "
            "medium, so nothing is overwritten. Start it from the rescue medium, then "
            "enter the code it shows."
        )
    target, _ = RestoreTarget.objects.update_or_create(
        host=host,
        port=port,
        defaults={
            "agent_certificate_pem": paired.certificate_pem,
            "code_digest": digest,
            "description": paired.description.to_json(),
            "paired_at": timezone.now(),
        },
    )
    logger.info("paired with rescue agent target_id=%s address=%s", target.pk, target.address)
    return target


def still_answers(target: RestoreTarget) -> bool:
    """Tell whether the rescue medium that was paired with still runs there."""
    try:
        refresh_target(target)
    except (AgentError, NotARescueMachine):
        return False
    return True


def _digest_of(host: str, port: int, code: str) -> str:
    plain = "".join(letter for letter in code.upper() if letter.isalnum())
    return hashlib.sha256(f"{host}:{port}:{plain}".encode()).hexdigest()


def get_target(target_id: UUID | str) -> RestoreTarget:
    """Return a rescue machine that this core has paired with.

    Raises:
        StepFailed: there is none with that id.
    """
    target = RestoreTarget.objects.filter(pk=target_id).first()
    if target is None:
        raise StepFailed(
            "RESTORE-TARGET-MISSING",
            f"This core does not know the rescue machine {target_id}. Pair with it again.",
            is_permanent=True,
        )
    return target


def dial_target(
    target: RestoreTarget, timeout_seconds: float = connection.CALL_TIMEOUT_SECONDS
) -> AgentClient:
    """Return a client of the rescue agent, which must present the certificate of the pairing."""
    return AgentClient(
        target.host,
        target.port,
        connection.core_credentials(),
        target.agent_certificate_pem,
        timeout_seconds=timeout_seconds,
    )


def refresh_target(target: RestoreTarget) -> None:
    """Ask the rescue agent for its disks, and save the answer.

    Raises:
        AgentError: it does not answer, or is another one.
        NotARescueMachine: the machine has started its own system.
    """
    description = dial_target(target, connection.PING_TIMEOUT_SECONDS).describe()
    if not description.is_rescue:
        raise NotARescueMachine(
            f"The machine at {target.address} is no longer running the rescue medium."
        )
    target.description = description.to_json()
    target.save(update_fields=["description"])
