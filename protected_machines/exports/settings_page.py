"""The vCenters' section of the Settings page."""

from typing import Any

from django.http import HttpRequest

from console.menus import MenuItem
from protected_machines.models import VCenter


def vcenter_section(request: HttpRequest) -> dict[str, Any]:
    """Return what the section shows: every vCenter of this core, with its menu."""
    return {"vcenters": [(vcenter, _menu(vcenter)) for vcenter in VCenter.objects.all()]}


def _menu(vcenter: VCenter) -> list[MenuItem]:
    room, key = "protected_machines", vcenter.pk
    return [
        MenuItem("Test connection", "retry", f"{room}:vcenter-check", key, "post"),
        MenuItem("Account", "key", f"{room}:vcenter-password", key, "dialog"),
        MenuItem("Remove", "delete", f"{room}:vcenter-remove", key, "dialog", is_danger=True),
    ]
