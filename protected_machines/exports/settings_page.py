"""The vCenters' section of the Settings page."""

from typing import Any

from django.http import HttpRequest

from protected_machines.models import VCenter


def vcenter_section(request: HttpRequest) -> dict[str, Any]:
    """Return what the section shows: every vCenter of this core."""
    return {"vcenters": VCenter.objects.all()}
