"""What the left navigation shows: every machine with its state, in one query."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from console.context import current_path
from console.identity import this_core
from protected_machines.choices import VM_KINDS, ConnectionState, MachineKind
from protected_machines.models import Machine
from protected_machines.ownership import ownership_trouble

# A longer group ends with a link to the full list.
MACHINES_PER_GROUP = 40

GROUPS = (
    ("Protected", (MachineKind.PROTECTED,)),
    ("Failed over", (MachineKind.PENDING_FAILOVER, *VM_KINDS)),
    ("Failed back", (MachineKind.FAILED_BACK,)),
    ("Replicated", (MachineKind.REPLICATED,)),
    ("Recovery points only", (MachineKind.RECOVERY_POINTS_ONLY,)),
)


@dataclass(frozen=True)
class NavigationEntry:
    """One machine of the navigation."""

    url: str
    name: str
    tone: str
    state_text: str


@dataclass(frozen=True)
class NavigationGroup:
    """A heading of the navigation with its machines."""

    title: str
    entries: list[NavigationEntry]
    more_count: int


@dataclass(frozen=True)
class MachineNavigation:
    """All groups, and the path of the current page."""

    groups: list[NavigationGroup]
    current_path: str


def state_of(machine: Machine, core_id: str) -> tuple[str, str]:
    """Return the tone (`ok`, `warn`, `bad`, `off`, `busy`) and the text shown beside it."""
    trouble = ownership_trouble(machine, core_id)
    if trouble is not None:
        return "bad", trouble.label
    if machine.kind == MachineKind.PENDING_FAILOVER:
        return "busy", "Failing over"
    if machine.kind == MachineKind.PENDING_FAILBACK:
        return "busy", "Pending failback"
    if machine.kind == MachineKind.FAILED_BACK:
        return "warn", "Failed back, not committed"
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
    """Provide `machine_navigation`, which is read only if a template prints it."""
    return {"machine_navigation": lambda: _navigation_of(request)}


def _navigation_of(request: HttpRequest) -> MachineNavigation:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return MachineNavigation([], "")
    path = current_path(request)
    return MachineNavigation(navigation_groups(path), path)


def navigation_groups(path: str = "") -> list[NavigationGroup]:
    """Return the groups that have machines, with at most `MACHINES_PER_GROUP` each.

    The machine whose page is open is always among them.
    """
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
        shown += [machine for machine in machines[MACHINES_PER_GROUP:] if str(machine.pk) in path]
        entries = [
            NavigationEntry(machine.get_absolute_url(), machine.name, *state_of(machine, core_id))
            for machine in shown
        ]
        groups.append(NavigationGroup(title, entries, len(machines) - len(shown)))
    return groups
