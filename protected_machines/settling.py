"""Settle who owns a machine, by the word of a person who found out where it really runs.

Used when another core claims it (*disputed*), or when what it is here contradicts its owner.
Nothing is started or stopped, here or elsewhere: only what this core knows changes.
"""

import logging
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from console.audit.log import Subject, record
from console.identity import this_core
from console.jobs.choices import OPEN
from console.jobs.models import Job
from protected_machines.agents.connection import AnsweringAgent, dial, record_address
from protected_machines.choices import KINDS_OWNED_HERE, MachineKind
from protected_machines.claims import EPOCH_LIMIT
from protected_machines.errors import ClaimNotSettled
from protected_machines.models import Machine
from protected_machines.models.machines import NO_VM
from protected_machines.ownership import CLAIM_FIELDS, NO_CLAIM, OWNER_FIELDS
from protected_machines.settlements import (
    Choice,
    facts_to_settle,
    may_run_here,
    needs_address,
    possible_settlements,
    source_name,
)

logger = logging.getLogger(__name__)


def get_named(name: str) -> Machine:
    """Return the only machine of that name, as a command names it.

    Raises:
        ClaimNotSettled: there is none, or there are several.
    """
    found = list(Machine.objects.filter(name=name)[:2])
    if len(found) != 1:
        what = f"several machines named {name}" if found else f"no machine named {name}"
        raise ClaimNotSettled(f"This core knows {what}.")
    return found[0]


def settle(machine: Machine, choice: Choice, agent: AnsweringAgent | None = None) -> None:
    """Settle who owns the machine. `machine` is as the person saw it, and is refreshed.

    agent: where it answers here, if this core does not know yet (`needs_address`).

    Raises:
        ClaimNotSettled: that cannot be chosen, it has changed meanwhile, or a job holds it.
    """
    if choice not in [one.choice for one in possible_settlements(machine)]:
        raise ClaimNotSettled(f"The owner of {machine.name} cannot be settled like this.")
    if choice is Choice.HERE:
        claim_here(machine, agent)
    elif choice is Choice.KEEP:
        keep_owner(machine)
    elif machine.is_disputed:
        accept_claim(machine)
    else:
        give_up(machine)


def ask_agent(machine: Machine, host: str, port: int) -> AnsweringAgent:
    """Return the machine's own agent at the address where a person says that it answers.

    Raises:
        AgentError: it does not answer there, or is not the machine's.
    """
    return AnsweringAgent(host, port, dial(machine, host=host, port=port).describe())


def claim_here(machine: Machine, agent: AnsweringAgent | None = None) -> None:
    """Make this core the owner, with an epoch above every other that it has heard of.

    Raises: see `settle`.
    """
    if not may_run_here(machine):
        raise ClaimNotSettled(
            f"{machine.name} is {machine.get_kind_display().lower()} here, so it does not run "
            "here. To have it run here, choose Fail Over."
        )
    if needs_address(machine) and agent is None:
        raise ClaimNotSettled(
            f"This core does not know where {machine.name} answers here. Enter the address of its "
            "agent."
        )
    core, kind = this_core(), _kind_here(machine)
    address = {} if agent is None else {"host": agent.host, "port": agent.port}
    with transaction.atomic():
        _change(
            machine,
            owner_core_id=core.id,
            owner_core_name=core.name,
            ownership_epoch=_next_epoch(machine),
            owned_since=timezone.now(),
            kind=kind,
            **address,
        )
        if agent is not None:
            record_address(machine.pk, agent)


def keep_owner(machine: Machine) -> None:
    """Keep the owner that this core knows. A claim that is repeated disputes it again."""
    _change(machine)


def accept_claim(machine: Machine) -> None:
    """Make the core that claims the machine its owner.

    Raises:
        ClaimNotSettled: no core claims it, it has changed meanwhile, or a job holds it.
    """
    if not machine.is_disputed:
        raise ClaimNotSettled(
            f"No other core claims {machine.name}, so there is nothing to accept."
        )
    _change(
        machine,
        owner_core_id=machine.claim_core_id,
        owner_core_name=machine.claim_core_name,
        ownership_epoch=machine.claim_epoch,
        owned_since=machine.claim_owned_since,
        **_as_copy(machine),
    )


def give_up(machine: Machine) -> None:
    """Have this core hold only copies: it gives the machine to the other core, or agrees to that.

    Raises: see `accept_claim`.
    """
    if not machine.is_owned_here:
        _change(machine, **_as_copy(machine))
        return
    _change(
        machine,
        owner_core_id=machine.source_core_id,
        owner_core_name=source_name(machine),
        ownership_epoch=machine.ownership_epoch + 1,
        owned_since=timezone.now(),
        **_as_copy(machine),
    )


def _change(machine: Machine, **changes: Any) -> None:
    """Save the changes and end the dispute, if nothing has changed since `machine` was read."""
    holding = Job.objects.filter(subject_id=machine.pk, is_exclusive=True, state__in=OPEN)
    job = holding.exclude(kind="snapshot").first()
    if job is not None:
        raise ClaimNotSettled(
            f"A job ({job.title.lower()}) holds {machine.name}. Cancel it or let it end first."
        )
    seen = facts_to_settle(machine)
    try:
        with transaction.atomic():
            won = Machine.objects.filter(pk=machine.pk, **seen).update(**changes, **NO_CLAIM)
    except IntegrityError as error:
        raise ClaimNotSettled(
            f"This core already protects another machine named {machine.name}, or one at the same "
            "address."
        ) from error
    if not won:
        raise ClaimNotSettled(
            f"The owner of {machine.name} has just changed. Nothing was settled: look at the "
            "machine again."
        )
    machine.refresh_from_db(fields=[*OWNER_FIELDS, *CLAIM_FIELDS])
    logger.warning(
        "owner settled machine_id=%s core_id=%s epoch=%s kind=%s was_core_id=%s was_epoch=%s",
        machine.pk,
        machine.owner_core_id,
        machine.ownership_epoch,
        machine.kind,
        seen["owner_core_id"],
        seen["ownership_epoch"],
    )
    record(
        "ownership:settled",
        f"{machine.owner_core_name} owns {machine.name}, with ownership epoch "
        f"{machine.ownership_epoch}; here it is {machine.get_kind_display().lower()}.",
        Subject("machine", str(machine.pk), machine.name),
    )


def _kind_here(machine: Machine) -> str:
    """Return what the machine is once this core protects it."""
    if machine.kind == MachineKind.PROTECTED or machine.source_core_id is None:
        return MachineKind.PROTECTED
    return MachineKind.FAILED_OVER


def _as_copy(machine: Machine) -> dict[str, Any]:
    """Return what changes once this core only holds copies: it no longer answers for the VM."""
    return {"kind": MachineKind.REPLICATED, **NO_VM} if machine.kind in KINDS_OWNED_HERE else {}


def _next_epoch(machine: Machine) -> int:
    """Return an epoch above that of the claim, unless no epoch is: such a claim stays disputed."""
    above = max(machine.ownership_epoch, machine.claim_epoch or 0) + 1
    return above if above <= EPOCH_LIMIT else machine.ownership_epoch + 1
