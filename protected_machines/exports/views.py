"""Export a recovery point to a VM."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods

from console.accounts.access import User
from console.dialogs import render_dialog
from console.findings import Finding, errors_first, has_errors
from console.htmx import redirect_after, refuse
from console.jobs.errors import JobConflict
from protected_machines.access import get_machine_for, list_vcenters_for
from protected_machines.choices import PointState
from protected_machines.errors import ProtectedMachinesError
from protected_machines.exports.forms import ExportForm
from protected_machines.exports.options import NAME_LENGTH, memory_mib_of
from protected_machines.exports.places import Places, check_readable, places_in
from protected_machines.exports.start import check_order, start_export
from protected_machines.exports.vcenters import connect
from protected_machines.models import Machine, RecoveryPoint, VCenter
from vsphere.errors import VSphereError

POINTS_OFFERED = 200
VCENTER_TIMEOUT_SECONDS = 10.0
# Choices that mean nothing in another vCenter or datacenter.
PLACE_FIELDS = ("datacenter", "compute", "folder", "datastore", "network")


@require_http_methods(["GET", "HEAD", "POST"])
def export_start(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Choose point, destination and hardware; show the findings; start the export.

    A post with `check` only shows the findings.
    """
    machine = get_machine_for(request.user, machine_id)
    chosen = request.POST if request.method == "POST" else request.GET
    dialog = ExportDialog(request.user, machine, chosen.dict())
    if dialog.obstacle:
        if request.method == "POST":
            return refuse(request, dialog.obstacle)
        return _render(request, machine, {"obstacle": dialog.obstacle})
    if request.method != "POST" or "check" in request.POST:
        form = dialog.form()
        return _render(request, machine, {"form": form, "findings": dialog.findings(form)})
    form = dialog.bound_form(request.POST)
    findings = dialog.findings(form) if form.is_valid() or dialog.unread else []
    if not form.is_valid() or has_errors(findings):
        return _render(request, machine, {"form": form, "findings": findings}, 422)
    try:
        start_export(form.order(machine), request.user, findings)
    except JobConflict as conflict:
        return refuse(request, conflict.text)
    return redirect_after(
        request, machine.get_absolute_url(), f"The export of {machine.name} has started."
    )


class ExportDialog:
    """What the dialog offers, given the choices so far; `obstacle` says why it offers nothing."""

    def __init__(self, user: User, machine: Machine, chosen: dict[str, str]) -> None:
        self.machine = machine
        self.chosen = chosen
        self.obstacle = ""
        self.unread: Finding | None = None
        self.unreadable: list[Finding] = []
        self.points = self._points()
        self.vcenters = list(list_vcenters_for(user))
        self.places = Places([], [], [], [], [])
        if not self.points:
            self.obstacle = f"{machine.name} has no recovery points to export yet."
        elif not self.vcenters:
            self.obstacle = "This core has no vCenter yet. Add one on the Settings page."
        else:
            self._read_places()

    def _points(self) -> list[RecoveryPoint]:
        points = list(self.machine.points.newest_first()[:POINTS_OFFERED])
        wanted = self.chosen.get("point_id", "")
        if wanted and wanted not in {str(point.pk) for point in points}:
            points += [point for point in self.machine.points.all() if str(point.pk) == wanted]
        return points

    @property
    def vcenter(self) -> VCenter:
        wanted = self.chosen.get("vcenter_id", "")
        return next((found for found in self.vcenters if str(found.pk) == wanted), self.vcenters[0])

    def _read_places(self) -> None:
        try:
            with connect(self.vcenter, VCENTER_TIMEOUT_SECONDS) as session:
                inventory = session.inventory()
        except (VSphereError, ProtectedMachinesError) as error:
            self.unread = Finding.error(error.code, f"{self.vcenter.name}: {error}")
            return
        known = {entry.moid for entry in inventory.datacenters}
        datacenter = self.chosen.get("datacenter", "")
        self.places = places_in(inventory, datacenter if datacenter in known else "")
        chosen = datacenter if datacenter in known else next(iter(known), "")
        self.unreadable = check_readable(inventory, chosen)

    def form(self) -> ExportForm:
        """Return the form with the choices so far, and defaults for the rest."""
        newest_usable = next(
            (point for point in self.points if point.state != PointState.DAMAGED), self.points[0]
        )
        defaults: dict[str, Any] = {
            "point_id": newest_usable.pk,
            "vcenter_id": self.vcenter.pk,
            "vm_name": f"{self.machine.name}-export"[:NAME_LENGTH],
            "cpus": self.machine.cpus or 1,
            "memory_mib": memory_mib_of(self.machine.memory_bytes or 1024**3),
        }
        kept = {
            name: value for name, value in self.chosen.items() if name in ExportForm.base_fields
        }
        for name in PLACE_FIELDS:
            if kept.get(name) not in {value for value, _ in getattr(self.places, f"{name}s")}:
                kept.pop(name, None)
        if kept.get("datacenter") not in {value for value, _ in self.places.datacenters}:
            kept.pop("datacenter", None)
        return self._form(None, {**defaults, **kept})

    def bound_form(self, data: Any) -> ExportForm:
        return self._form(data, {})

    def _form(self, data: Any, initial: dict[str, Any]) -> ExportForm:
        return ExportForm(
            data,
            points=self.points,
            vcenters=self.vcenters,
            places=self.places,
            initial=initial,
        )

    def findings(self, form: ExportForm) -> list[Finding]:
        """Return the findings about the form, even before it is submitted."""
        if self.unread is not None:
            return [self.unread]
        if not form.is_bound:
            values = {name: form.initial.get(name, "") for name in form.fields}
            form = self.bound_form({**values, "request_id": self.machine.pk})
            if not form.is_valid():
                return self.unreadable
        return errors_first([*check_order(form.order(self.machine)), *self.unreadable])


def _render(
    request: HttpRequest, machine: Machine, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    values = {
        "machine": machine,
        "has_errors": has_errors(context.get("findings", [])),
        **context,
    }
    return render_dialog(
        request, "protected_machines/_export.html", "Export to a VM", values, status
    )
