"""What the left navigation prints: every machine with its state, by one query."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from console.identity import this_core
from protected_machines.choices import ConnectionState, MachineKind
from protected_machines.models import Machine

# A longer group ends in a link to the full list.
MACHINES_PER_GROUP = 40

GROUPS = (
    ("Protected", (MachineKind.PROTECTED,)),
    ("Failed over", (MachineKind.FAILED_OVER, MachineKind.PENDING_FAILOVER)),
    ("Replicated", (MachineKind.REPLICATED,)),
    ("Recovery points only", (MachineKind.RECOVERY_POINTS_ONLY,)),
)


@dataclass(frozen=True)
class NavigationGroup:
    """A heading of the navigation with its machines."""

    title: str
    machines: list[Machine]
    more_count: int


def state_of(machine: Machine, core_id: str) -> tuple[str, str]:
    """Return the state word (`ok`, `warn`, `bad`, `off`, `busy`) and the text shown beside it."""
    if machine.kind == MachineKind.PENDING_FAILOVER:
        return "busy", "Failing over"
    if machine.kind == MachineKind.REPLICATED:
        return "off", "Replicated"
    if machine.kind == MachineKind.RECOVERY_POINTS_ONLY:
        return "off", "Points only"
    if str(machine.owner_core_id) != core_id:
        return "warn", "Owned elsewhere"
    if machine.connection_state == ConnectionState.ONLINE:
        return ("warn", "Online, paused") if machine.is_paused else ("ok", "Online")
    if machine.connection_state == ConnectionState.UNKNOWN:
        return "off", "Not seen yet"
    return "bad", machine.get_connection_state_display()


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Give `machine_navigation`, read from the database only when a template prints it."""
    if not getattr(request, "user", None) or not request.user.is_authenticated:
        return {"machine_navigation": []}
    return {"machine_navigation": SimpleLazyObject(navigation_groups)}


def navigation_groups() -> list[NavigationGroup]:
    """Return the groups that have machines, with at most `MACHINES_PER_GROUP` each."""
    core_id = this_core().id
    by_kind: dict[str, list[Machine]] = {}
    for machine in Machine.objects.for_navigation():
        by_kind.setdefault(machine.kind, []).append(machine)
    groups = []
    for title, kinds in GROUPS:
        machines = [machine for kind in kinds for machine in by_kind.get(kind, [])]
        if not machines:
            continue
        machines.sort(key=lambda machine: machine.name)
        shown = machines[:MACHINES_PER_GROUP]
        for machine in shown:
            machine.navigation_state, machine.navigation_text = state_of(machine, core_id)
        groups.append(NavigationGroup(title, shown, len(machines) - len(shown)))
    return groups
