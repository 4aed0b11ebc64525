"""When a seed drive cannot be made. Pure; menus and views give the same reasons."""

from protected_machines.ownership import settle_first
from replication.models import ReplicatedMachine


def refuse_core_seed_drive(machine_count: int) -> str:
    """Return why no machine of a pairing can be copied; empty if one can."""
    return "" if machine_count else "No machines are replicated over this pairing."


def refuse_machine_seed_drive(replicated: ReplicatedMachine, is_on_seed_drive: bool) -> str:
    """Return why this machine cannot be copied now; empty if it can."""
    unsettled = settle_first(replicated.machine)
    if unsettled:
        return unsettled
    if not replicated.machine.is_owned_here:
        owner = replicated.machine.owner_core_name
        return f"{owner} owns this machine, so this core cannot act on it."
    if is_on_seed_drive:
        return "A seed drive of this machine is already outstanding."
    return ""
