"""How a person can settle who owns a machine: what can be chosen, and what each choice does.

Acting on a choice is `settling.py`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from console.identity import this_core
from protected_machines.choices import KINDS_OWNED_HERE, LIVE_KINDS
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.ownership import Trouble, ownership_trouble


class Choice(StrEnum):
    """How a person settles it."""

    HERE = "here"
    KEEP = "keep"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class Settlement:
    """One way to settle it: whose the machine is then, and what that does."""

    choice: Choice
    title: str
    text: str


def possible_settlements(machine: Machine) -> list[Settlement]:
    """Return how the owner of the machine can be settled here; empty if nothing is unclear."""
    trouble = ownership_trouble(machine)
    if trouble is None:
        return []
    found = [_here(machine)] if may_run_here(machine) else []
    if trouble is Trouble.DISPUTED:
        if not machine.is_owned_here:
            found.append(_keep(machine))
        found.append(_elsewhere(machine, machine.claim_core_name))
    elif not machine.is_owned_here:
        found.append(_elsewhere(machine, machine.owner_core_name))
    elif machine.source_core_id is not None:
        found.append(_elsewhere(machine, source_name(machine)))
    return found


def needs_address(machine: Machine) -> bool:
    """Whether this core does not know yet where the machine's agent answers here."""
    return machine.kind not in LIVE_KINDS


def may_run_here(machine: Machine) -> bool:
    """Whether the machine may run here, by this row."""
    return machine.is_owned_here or machine.kind in (*LIVE_KINDS, *KINDS_OWNED_HERE)


def facts_to_settle(machine: Machine) -> dict[str, Any]:
    """Return the columns that a person has to know to settle it."""
    names = ("owner_core_id", "ownership_epoch", "kind", "claim_core_id", "claim_epoch")
    return {name: getattr(machine, name) for name in names}


def seen_of(machine: Machine) -> str:
    """Return a text that changes with them."""
    return " ".join(str(fact) for fact in facts_to_settle(machine).values())


def source_name(machine: Machine) -> str:
    """Return the name of the core that replicates the machine here, as its points tell it."""
    taken = RecoveryPoint.objects.filter(taken_by_core_id=str(machine.source_core_id))
    newest = taken.filter(machine=machine).newest_first().first()
    return newest.taken_by_core_name if newest is not None else "The source core"


def _here(machine: Machine) -> Settlement:
    text = "It runs here. This core protects it from now on."
    if machine.is_disputed:
        text += (
            f" It claims the machine with a higher epoch than {machine.claim_core_name} does. If "
            "the machine is disputed there, accept this claim there."
        )
    return Settlement(Choice.HERE, f"{this_core().name} (this core)", text)


def _keep(machine: Machine) -> Settlement:
    text = (
        "This core ignores the claim. If it is repeated, the machine is disputed again: settle it "
        f"at {machine.claim_speaker_name} first."
    )
    return Settlement(Choice.KEEP, f"{machine.owner_core_name}, as before", text)


def _elsewhere(machine: Machine, name: str) -> Settlement:
    if machine.kind not in KINDS_OWNED_HERE:
        text = "It does not run here. This core keeps its recovery points and does not act on it."
    else:
        vm = f"VM {machine.vm_name}" if machine.vm_name else "VM"
        text = (
            "It does not run here. This core keeps its recovery points and no longer answers for "
            f"its {vm} here, which is left as it is: power it off in vSphere by hand."
        )
    return Settlement(Choice.ELSEWHERE, name, text)
