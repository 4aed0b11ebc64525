"""Restore a recovery point onto a machine that runs the rescue medium."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods

from agent.errors import AgentError, AgentUnreachable, PairingClosed, WrongPairingCode
from console.dialogs import render_dialog
from console.htmx import redirect_after, refuse
from console.jobs.acts import start_job
from console.jobs.errors import JobConflict
from protected_machines.access import get_machine_for, get_point_for, get_restore_target_for
from protected_machines.errors import NotARescueMachine, ProtectedMachinesError
from protected_machines.models import Machine, RecoveryPoint, RestoreTarget
from protected_machines.points.proofs import get_manifest
from protected_machines.restores.forms import RescueAddressForm, RestoreForm
from protected_machines.restores.mapping import map_disks
from protected_machines.restores.rescue_machines import pair_target, refresh_target
from protected_machines.restores.workflow import RestoreParams

_TITLE = "Restore"


@require_http_methods(["GET", "HEAD", "POST"])
def restore_start(request: HttpRequest, machine_id: UUID, point_id: UUID) -> HttpResponse:
    """First pair with the rescue machine and show its disks; then restore onto them."""
    machine = get_machine_for(request.user, machine_id)
    point = get_point_for(request.user, machine, point_id)
    if "target_id" in request.POST:
        return _confirm(request, machine, point)
    form = RescueAddressForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        target = _pair(form)
        if target is not None:
            confirming = RestoreForm(initial={"target_id": target.pk})
            return _confirm_dialog(request, machine, point, target, confirming, 200)
    status = 422 if request.method == "POST" else 200
    context = {"machine": machine, "point": point, "form": form}
    return render_dialog(request, "protected_machines/_restore.html", _TITLE, context, status)


def _pair(form: RescueAddressForm) -> RestoreTarget | None:
    """Pair, or show the reason for the failure at its field."""
    values = form.cleaned_data
    try:
        return pair_target(values["host"], values["port"], values["code"])
    except (WrongPairingCode, PairingClosed) as error:
        form.add_error("code", str(error))
    except (AgentUnreachable, NotARescueMachine) as error:
        form.add_error("host", str(error))
    except AgentError as error:
        form.add_error(None, f"{error} [{error.code}]")
    return None


def _confirm(request: HttpRequest, machine: Machine, point: RecoveryPoint) -> HttpResponse:
    form = RestoreForm(request.POST)
    if not form.is_valid():
        return refuse(request, "The form is incomplete. Open the dialog again.")
    target = get_restore_target_for(request.user, form.cleaned_data["target_id"])
    try:
        refresh_target(target)
        mapping = map_disks(get_manifest(machine.pk, point.pk), target.described, point)
    except (AgentError, ProtectedMachinesError) as error:
        return refuse(request, f"{error} [{error.code}]")
    refusal = _adoption_refusal(machine) if form.cleaned_data["is_protected_there"] else ""
    if refusal:
        form.add_error("is_protected_there", refusal)
    if mapping.has_errors or refusal:
        return _confirm_dialog(request, machine, point, target, form, 422)
    try:
        job = start_job(
            "restore",
            machine.pk,
            machine.name,
            RestoreParams(
                point_id=point.pk,
                target_id=target.pk,
                is_protected_there=form.cleaned_data["is_protected_there"],
            ),
            requested_by=request.user,
            request_id=form.cleaned_data["request_id"],
        )
    except JobConflict as conflict:
        return refuse(request, conflict.text)
    return redirect_after(
        request, job.get_absolute_url(), f"Restoring {machine.name} onto {target.address}."
    )


def _confirm_dialog(
    request: HttpRequest,
    machine: Machine,
    point: RecoveryPoint,
    target: RestoreTarget,
    form: RestoreForm,
    status: int,
) -> HttpResponse:
    try:
        mapping = map_disks(get_manifest(machine.pk, point.pk), target.described, point)
    except ProtectedMachinesError as error:
        return refuse(request, f"{error} [{error.code}]")
    context = {
        "machine": machine,
        "point": point,
        "target": target,
        "mapping": mapping,
        "findings": mapping.findings,
        "form": form,
        "adoption_refusal": _adoption_refusal(machine),
    }
    template = "protected_machines/_confirm_restore.html"
    return render_dialog(request, template, _TITLE, context, status)


def _adoption_refusal(machine: Machine) -> str:
    """Return why this core cannot protect the machine at its new address; empty if it can."""
    if machine.is_live:
        return ""
    if not machine.is_owned_here:
        return f"{machine.owner_core_name} owns {machine.name}, so this core cannot protect it."
    return f"This core does not protect {machine.name} ({machine.get_kind_display().lower()})."
