"""Archive recovery points of a machine in a folder of this core."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods

from console.dialogs import render_dialog
from console.findings import Finding
from console.htmx import redirect_after, refuse
from console.jobs.acts import start_job
from console.jobs.errors import JobConflict
from console.wording import bytes_human
from protected_machines.access import get_machine_for
from protected_machines.archives.folder import survey_folder
from protected_machines.archives.forms import ArchiveForm
from protected_machines.archives.steps import ArchiveCheck, check_archive, points_to_archive
from protected_machines.archives.workflow import ArchiveParams
from protected_machines.choices import PointState
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.errors import StoreError

POINTS_OFFERED = 200


@require_http_methods(["GET", "HEAD", "POST"])
def archive_start(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Choose the points and the folder; show the findings; start the archive.

    A post with `check` only shows the findings of what was chosen.
    """
    machine = get_machine_for(request.user, machine_id)
    points = list(machine.points.newest_first()[:POINTS_OFFERED])
    if request.method != "POST":
        initial = {"point_id": request.GET.get("point_id", "")}
        return _render(request, machine, points, _form(None, machine, points, initial))
    form = _form(request.POST, machine, points, {})
    if not points:
        return refuse(request, f"{machine.name} has no recovery points yet.")
    if not form.is_valid():
        if "check" in request.POST:
            form = _form(None, machine, points, request.POST.dict())
            return _render(request, machine, points, form)
        return _render(request, machine, points, form, status=422)
    check = _check(machine, form, points)
    if "check" in request.POST:
        return _render(request, machine, points, form, check)
    if check.has_errors:
        return _render(request, machine, points, form, check, 422)
    try:
        job = start_job(
            "archive",
            machine.pk,
            machine.name,
            ArchiveParams(str(check.folder), form.cleaned_data["point_id"]),
            requested_by=request.user,
            request_id=form.cleaned_data["request_id"],
        )
    except JobConflict as conflict:
        return refuse(request, conflict.text)
    return redirect_after(
        request, job.get_absolute_url(), f"Archiving {machine.name} to {check.folder}."
    )


def _form(
    data: Any, machine: Machine, points: list[RecoveryPoint], initial: dict[str, Any]
) -> ArchiveForm:
    totals = machine.points.totals()
    all_text = f"All {totals['count']}, {bytes_human(totals['stored_bytes'])}"
    return ArchiveForm(data, points=points, all_text=all_text, initial=initial)


def _check(machine: Machine, form: ArchiveForm, points: list[RecoveryPoint]) -> ArchiveCheck:
    point_id = form.cleaned_data["point_id"]
    survey = survey_folder(form.cleaned_data["folder"])
    try:
        check = check_archive(survey, points_to_archive(machine.pk, point_id))
    except StoreError as error:
        check = ArchiveCheck(survey.path, [Finding.error(error.code, str(error))])
    chosen = next((point for point in points if point.pk == point_id), None)
    if chosen is not None and chosen.state == PointState.DAMAGED:
        text = f"The recovery point is damaged: {chosen.damage_text}. Choose another."
        damage = Finding.error("ARCHIVE-POINT-DAMAGED", text)
        check = replace(check, findings=[damage, *check.findings])
    return check


def _render(
    request: HttpRequest,
    machine: Machine,
    points: list[RecoveryPoint],
    form: ArchiveForm,
    check: ArchiveCheck | None = None,
    status: int = 200,
) -> HttpResponse:
    obstacle = "" if points else f"{machine.name} has no recovery points to archive yet."
    values: dict[str, Any] = {"machine": machine, "form": form, "obstacle": obstacle}
    if check is not None:
        values |= {"check": check, "findings": check.findings, "has_errors": check.has_errors}
    return render_dialog(request, "protected_machines/_archive.html", "Archive", values, status)
