"""Pages of DR status: the page, the CSV file, and the dialogs that set objectives."""

import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from console.audit.log import read_head
from console.dialogs import render_dialog
from console.htmx import is_fragment, redirect_after, render_page
from console.identity import this_core
from protected_machines.access import get_machine_for
from replication.models import RecoveryObjective
from replication.status.access import get_core_name
from replication.status.chart import draw
from replication.status.forms import ObjectivesForm
from replication.status.history import read_history
from replication.status.paper import pdf_of
from replication.status.report import Report, gather_report
from replication.status.table import csv_of


@require_safe
def status_page(request: HttpRequest) -> HttpResponse:
    """Answer a manager's four questions, and show what the answers rest on."""
    now = timezone.now()
    context: dict[str, Any] = {"report": gather_report(now)}
    if not is_fragment(request):
        history = read_history(now)
        context |= {"history": history, "chart": draw(history)}
    return render_page(request, "replication/status.html", context, fragment="status")


@require_safe
def status_csv(request: HttpRequest) -> HttpResponse:
    """Download the machines as CSV."""
    report = gather_report(timezone.now())
    return _download(report, csv_of(report).encode(), "csv", "text/csv; charset=utf-8")


@require_safe
def status_pdf(request: HttpRequest) -> HttpResponse:
    """Download the page as PDF."""
    report = gather_report(timezone.now())
    content = pdf_of(report, this_core().name, read_head().digest)
    return _download(report, content, "pdf", "application/pdf")


def _download(report: Report, content: bytes, ending: str, content_type: str) -> HttpResponse:
    name = f"dr-status-{timezone.localtime(report.at):%Y-%m-%d}.{ending}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(content, content_type=content_type, headers=headers)


@require_http_methods(["GET", "HEAD", "POST"])
def core_objectives(request: HttpRequest, core_id: uuid.UUID) -> HttpResponse:
    """Set the objectives of a source core."""
    name = get_core_name(core_id)
    return _set_objectives(request, core_id, name, is_machine=False)


@require_http_methods(["GET", "HEAD", "POST"])
def machine_objectives(request: HttpRequest, machine_id: uuid.UUID) -> HttpResponse:
    """Set the objectives of one machine."""
    machine = get_machine_for(request.user, machine_id)
    return _set_objectives(request, machine.pk, machine.name, is_machine=True)


def _set_objectives(
    request: HttpRequest, subject_id: uuid.UUID, name: str, *, is_machine: bool
) -> HttpResponse:
    objective = RecoveryObjective.objects.filter(pk=subject_id).first()
    form = ObjectivesForm(
        request.POST if request.method == "POST" else None,
        objective=objective or RecoveryObjective(subject_id=subject_id),
        is_machine=is_machine,
    )
    if request.method == "POST" and form.is_valid():
        form.save()
        url = reverse("status:page")
        return redirect_after(request, url, toast=f"Objectives of {name} saved.")
    status = 422 if request.method == "POST" else 200
    context = {"form": form, "name": name, "is_machine": is_machine}
    return render_dialog(request, "replication/_objectives.html", "Objectives", context, status)
