"""Seed drives: copy points to one, consume one that arrived here, abandon one."""

import uuid
from dataclasses import replace
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from console.dialogs import render_dialog
from console.findings import Finding
from console.htmx import redirect_after, refuse
from console.jobs.acts import start_job
from console.jobs.errors import JobConflict
from protected_machines.archives.folder import survey_folder
from protected_machines.archives.import_steps import ArchivedMachine
from protected_machines.archives.import_views import ImportDialog, run_import_dialog
from protected_machines.archives.steps import ArchiveCheck, check_archive, points_to_archive
from recovery_store.errors import StoreError
from recovery_store.manifest import Manifest
from replication.access import get_pairing_for, get_replicated_for, get_seed_drive_for
from replication.choices import SeedDriveState
from replication.models import Pairing, ReplicatedMachine, SeedDrive
from replication.seed_drives.forms import SeedDriveForm
from replication.seed_drives.policy import refuse_core_seed_drive, refuse_machine_seed_drive
from replication.seed_drives.workflow import SeedDriveParams

_TITLE = "Copy to Seed Drive"


@require_http_methods(["GET", "HEAD", "POST"])
def copy_core(request: HttpRequest, pairing_id: uuid.UUID) -> HttpResponse:
    """Copy the points of machines that are replicated to a target core."""
    pairing = get_pairing_for(request.user, pairing_id)
    refusal = refuse_core_seed_drive(pairing.machines.count())
    return _copy(request, pairing, pairing.machines.all(), refusal)


@require_http_methods(["GET", "HEAD", "POST"])
def copy_machine(request: HttpRequest, replicated_id: uuid.UUID) -> HttpResponse:
    """Copy one machine's points."""
    replicated = get_replicated_for(request.user, replicated_id)
    rows = replicated.pairing.machines.filter(pk=replicated.pk)
    refusal = refuse_machine_seed_drive(replicated, replicated.seed_drives.outstanding().exists())
    return _copy(request, replicated.pairing, rows, refusal)


def _copy(request: HttpRequest, pairing: Pairing, wanted: Any, refusal: str) -> HttpResponse:
    """Choose machines and folder; a POST with `check` only shows the findings."""
    outstanding = SeedDrive.objects.outstanding().values("replicated_id")
    rows: dict[uuid.UUID, ReplicatedMachine] = {
        row.pk: row
        for row in wanted.select_related("machine").exclude(pk__in=outstanding)
        if row.machine.is_owned_here
    }
    obstacle = refusal or _obstacle(pairing, rows)
    if obstacle and request.method == "POST":
        return refuse(request, obstacle)
    choices = [(key, row.machine.name) for key, row in rows.items()]
    is_check = "check" in request.POST
    form = SeedDriveForm(
        request.POST or None, choices=choices, initial={"machines": [str(key) for key in rows]}
    )
    context: dict[str, Any] = {"form": form, "pairing": pairing, "obstacle": obstacle}
    if request.method != "POST":
        return _render(request, context)
    if not form.is_valid():
        if is_check:
            kept = {**request.POST.dict(), "machines": request.POST.getlist("machines")}
            context["form"] = SeedDriveForm(choices=choices, initial=kept)
        return _render(request, context, 200 if is_check else 422)
    chosen = [rows[key] for key in form.cleaned_data["machines"]]
    check = _check(chosen, form.cleaned_data["folder"])
    context |= {"check": check, "findings": check.findings, "has_errors": check.has_errors}
    if is_check or check.has_errors:
        return _render(request, context, 200 if is_check else 422)
    try:
        for row in chosen:
            start_job(
                "seed_drive",
                row.pk,
                f"{row.machine.name} → {pairing.peer_name}",
                SeedDriveParams(row.pk, str(check.folder)),
                request.user,
                uuid.uuid5(form.cleaned_data["request_id"], str(row.pk)),
            )
    except JobConflict as conflict:
        return refuse(request, conflict.text)
    names = ", ".join(row.machine.name for row in chosen)
    return _after(request, f"Copying {names} to {check.folder}.")


def _obstacle(pairing: Pairing, rows: dict[uuid.UUID, ReplicatedMachine]) -> str:
    if not pairing.is_outgoing:
        return f"{pairing.peer_name} replicates to this core. Make the seed drive there."
    if not rows:
        return "All machines already have an outstanding seed drive, or are owned by another core."
    return ""


def _check(chosen: list[ReplicatedMachine], folder: str) -> ArchiveCheck:
    """Check the folder and the points: what will be copied, and the findings."""
    survey = survey_folder(folder)
    points: list[Manifest] = []
    findings = []
    try:
        for row in chosen:
            own = points_to_archive(row.machine_id, None)
            if not own:
                text = f"{row.machine.name} has no recovery points yet."
                findings.append(Finding.error("SEED-DRIVE-NO-POINT", text))
            points += own
        check = check_archive(survey, points)
    except StoreError as error:
        check = ArchiveCheck(survey.path, [Finding.error(error.code, str(error))])
    return replace(check, findings=[*findings, *check.findings])


@require_http_methods(["GET", "HEAD", "POST"])
def consume(request: HttpRequest, pairing_id: uuid.UUID) -> HttpResponse:
    """Import the points of a seed drive that a source core made."""
    pairing = get_pairing_for(request.user, pairing_id)
    if pairing.is_outgoing:
        return refuse(
            request, f"{pairing.peer_name} is a target core. Consume its seed drives there."
        )

    def refusal_of(archived: ArchivedMachine) -> str:
        is_of_it = archived.newest.owner_core_id == str(pairing.peer_core_id) or (
            pairing.machines.filter(machine_id=archived.machine_id).exists()
        )
        if is_of_it:
            return ""
        return (
            f"{archived.name} is not a machine of {pairing.peer_name}. Use Import Archive instead."
        )

    return run_import_dialog(
        request,
        ImportDialog(
            title="Consume Seed Drive",
            text=f"Imports the points that {pairing.peer_name} copied to a seed drive. Newer "
            "points are then sent over the link.",
            button="Consume",
            back_url=reverse("replication:page"),
            refusal_of=refusal_of,
        ),
    )


@require_http_methods(["GET", "HEAD", "POST"])
def abandon(request: HttpRequest, seed_drive_id: uuid.UUID) -> HttpResponse:
    """Abandon a seed drive: its points go over the link. The disk is left as it is."""
    drive = get_seed_drive_for(request.user, seed_drive_id)
    name = drive.replicated.machine.name
    if request.method != "POST":
        context = {"drive": drive, "machine": drive.replicated.machine, "refusal": _refusal(drive)}
        return render_dialog(request, "replication/_abandon.html", "Abandon Seed Drive", context)
    refusal = _refusal(drive)
    if refusal:
        return refuse(request, refusal)
    if not drive.end(SeedDriveState.ABANDONED, timezone.now()):
        return refuse(
            request, f"The seed drive has already been {drive.get_state_display().lower()}."
        )
    return _after(request, f"Seed drive of {name} abandoned. Its points are sent over the link.")


def _refusal(drive: SeedDrive) -> str:
    if drive.state != SeedDriveState.OUTSTANDING:
        return f"The seed drive has already been {drive.get_state_display().lower()}."
    if not drive.is_copied:
        return "The seed drive is still being copied. Cancel that job instead."
    return ""


def _render(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    template = "replication/_copy_to_seed_drive.html"
    return render_dialog(request, template, _TITLE, context, status)


def _after(request: HttpRequest, toast: str) -> HttpResponse:
    return redirect_after(request, reverse("replication:page"), toast=toast)
