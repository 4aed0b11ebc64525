"""Import an archive: first show what is in it, then import the points of the chosen machines.

Replication shows the same dialog for a seed drive and passes in what differs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid5

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from console.dialogs import render_dialog
from console.findings import Finding, has_errors
from console.htmx import redirect_after, refuse
from console.jobs.acts import start_job
from console.jobs.errors import JobConflict
from console.wording import bytes_human
from protected_machines.archives.folder import check_archive_to_read, survey_folder
from protected_machines.archives.forms import ArchiveFolderForm, ImportArchiveForm
from protected_machines.archives.import_steps import (
    ArchivedMachine,
    check_import,
    check_room,
    read_archive,
)
from protected_machines.archives.import_workflow import ImportParams
from recovery_store.errors import StoreError

POINTS_OFFERED = 200


@dataclass(frozen=True)
class ImportDialog:
    """How an import is titled here, where it leads, and which machines it refuses."""

    title: str
    text: str
    button: str
    back_url: str
    refusal_of: Callable[[ArchivedMachine], str] = lambda archived: ""


@require_http_methods(["GET", "HEAD", "POST"])
def import_start(request: HttpRequest) -> HttpResponse:
    """Import an archive into this core."""
    return run_import_dialog(
        request,
        ImportDialog(
            title="Import Archive",
            text="Brings in recovery points that were archived on this or another core.",
            button="Import Archive",
            back_url=reverse("protected_machines:machines"),
        ),
    )


def run_import_dialog(request: HttpRequest, dialog: ImportDialog) -> HttpResponse:
    """Ask for the folder, show what is in it, and start a job for each chosen machine."""
    form = ArchiveFolderForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        status = 422 if request.method == "POST" else 200
        return _render(request, dialog, "_import_folder", {"form": form}, status)
    survey = survey_folder(form.cleaned_data["folder"])
    rows: list[ImportRow] = []
    refusal = next((f"{each.text} [{each.code}]" for each in check_archive_to_read(survey)), "")
    if not refusal:
        try:
            rows = [_row(archived, dialog) for archived in read_archive(survey.path)]
        except StoreError as error:
            refusal = f"{error} [{error.code}]"
    if not refusal and not rows:
        refusal = f"{survey.path} contains no readable recovery points. [ARCHIVE-NONE-THERE]"
    if refusal:
        form.add_error("folder", refusal)
        return _render(request, dialog, "_import_folder", {"form": form}, 422)
    return _choose(request, dialog, str(survey.path), rows)


@dataclass(frozen=True)
class ImportRow:
    """One machine of the archive, with the findings about importing it."""

    archived: ArchivedMachine
    findings: list[Finding] = field(default_factory=list)

    @property
    def key(self) -> str:
        return str(self.archived.machine_id)

    @property
    def can_be_imported(self) -> bool:
        return not has_errors(self.findings)

    @property
    def is_wanted(self) -> bool:
        return self.can_be_imported and bool(self.archived.new_point_ids)


def _row(archived: ArchivedMachine, dialog: ImportDialog) -> ImportRow:
    findings = check_import(archived)
    refusal = dialog.refusal_of(archived)
    if refusal:
        findings.insert(0, Finding.error("IMPORT-NOT-OF-THAT-CORE", refusal))
    return ImportRow(archived, findings)


def _choose(
    request: HttpRequest, dialog: ImportDialog, folder: str, rows: list[ImportRow]
) -> HttpResponse:
    offered = {row.archived.machine_id: row for row in rows if row.can_be_imported}
    data = request.POST if "request_id" in request.POST else None
    form = ImportArchiveForm(
        data,
        machines=[(key, row.archived.name) for key, row in offered.items()],
        points=_point_choices(rows),
        initial={
            "folder": folder,
            "machines": [row.key for row in rows if row.is_wanted],
        },
    )
    context: dict[str, Any] = {"form": form, "folder": folder, "rows": rows}
    if data is None:
        wanted_bytes = sum(row.archived.new_bytes for row in rows if row.is_wanted)
        context["findings"] = check_room(wanted_bytes)
        return _render(request, dialog, "_import_archive", context)
    if not form.is_valid():
        return _render(request, dialog, "_import_archive", context, 422)
    chosen = [offered[key].archived for key in form.cleaned_data["machines"]]
    point_id = form.cleaned_data["point_id"]
    context["findings"] = check_room(sum(archived.new_bytes for archived in chosen))
    if context["findings"] and point_id is None:
        return _render(request, dialog, "_import_archive", context, 422)
    request_id = form.cleaned_data["request_id"]
    try:
        for archived in chosen:
            start_job(
                "import_archive",
                archived.machine_id,
                archived.name,
                ImportParams(folder, point_id),
                requested_by=request.user,
                request_id=uuid5(request_id, str(archived.machine_id)),
            )
    except JobConflict as conflict:
        return refuse(request, conflict.text)
    names = ", ".join(archived.name for archived in chosen)
    return redirect_after(request, dialog.back_url, f"Importing recovery points of {names}.")


def _point_choices(rows: list[ImportRow]) -> list[tuple[Any, str]]:
    """Return the points to choose from, if the archive holds a single machine."""
    if len(rows) != 1:
        return [("", "All")]
    archived = rows[0].archived
    all_text = f"All {len(archived.points)}, {bytes_human(archived.stored_bytes)}"
    newest_first = list(reversed(archived.points))[:POINTS_OFFERED]
    return [
        ("", all_text),
        *(
            (point.point_id, f"{point.taken_at:%Y-%m-%d %H:%M:%S} UTC and what it builds on")
            for point in newest_first
        ),
    ]


def _render(
    request: HttpRequest,
    dialog: ImportDialog,
    template: str,
    context: dict[str, Any],
    status: int = 200,
) -> HttpResponse:
    values = {"dialog": dialog, **context}
    path = f"protected_machines/{template}.html"
    return render_dialog(request, path, dialog.title, values, status)
