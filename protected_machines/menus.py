"""The Actions menu of a protected machine, with the items that rooms above register."""

from collections.abc import Callable

from console.menus import MenuItem
from protected_machines.models import Machine
from protected_machines.ownership import act_refusal, ownership_trouble

ItemProvider = Callable[[Machine], MenuItem]
_providers: list[ItemProvider] = []


def register_item(provider: ItemProvider) -> ItemProvider:
    """Add an item to every machine's menu. Called from an app's `ready()`. Idempotent."""
    if provider not in _providers:
        _providers.append(provider)
    return provider


def machine_menu(machine: Machine) -> list[MenuItem]:
    """Return what can be done to one machine."""
    refusal = act_refusal(machine)
    if machine.is_paused:
        pause = _item(machine, "Resume protection", "resume", "machine-resume", "post", refusal)
    else:
        pause = _item(machine, "Pause protection", "pause", "machine-pause", "post", refusal)
    return [
        *owner_items(machine),
        _item(machine, "Schedule", "point", "machine-schedule", "dialog", refusal),
        *[provider(machine) for provider in _providers],
        pause,
        _item(machine, "Archive", "disk", "archive-start", "dialog"),
    ]


def owner_items(machine: Machine, core_id: str = "") -> list[MenuItem]:
    """Return the item for settling who owns the machine; none if that is clear."""
    if ownership_trouble(machine, core_id) is None:
        return []
    return [_item(machine, "Settle Owner", "state-bad", "owner-settle", "dialog")]


def _item(
    machine: Machine, title: str, icon: str, name: str, how: str, refusal: str = ""
) -> MenuItem:
    return MenuItem(title, icon, f"protected_machines:{name}", machine.pk, how, refusal)
