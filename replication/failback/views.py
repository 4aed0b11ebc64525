"""Failback: the dialog with its estimate, the start, the live page, commit and roll back."""

import uuid
from collections.abc import Callable

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.dialogs import render_dialog, steps_of
from console.htmx import redirect_after, refuse
from console.jobs.acts import User, cancel_job, retry_job
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from replication.access import get_failback_for, get_pairing_for, get_replicated_for
from replication.failback import end, policy, workflow
from replication.failback.draft import FailbackDraft, draft_failback
from replication.failback.progress import gather_failback
from replication.failback.start import find_failback, start_failback
from replication.groups import act_on_job, sent_request_id, show_live
from replication.models import Failback, FailbackMachine, Pairing, ReplicatedMachine

_DIALOG = "replication/_failback.html"


@require_http_methods(["GET", "HEAD", "POST"])
def failback_core(request: HttpRequest, pairing_id: uuid.UUID) -> HttpResponse:
    """Choose from all machines of a source core that run here."""
    pairing = get_pairing_for(request.user, pairing_id)
    if pairing.is_outgoing:
        raise Http404
    return _failback(request, pairing, None)


@require_http_methods(["GET", "HEAD", "POST"])
def failback_machine(request: HttpRequest, replicated_id: uuid.UUID) -> HttpResponse:
    """Fail one machine back."""
    replicated = get_replicated_for(request.user, replicated_id)
    if replicated.pairing.is_outgoing:
        raise Http404
    refusal = policy.refuse_machine_failback(replicated)
    if refusal and request.method != "POST":
        return refuse(request, f"{replicated.machine.name} cannot fail back: {refusal}")
    return _failback(request, replicated.pairing, replicated)


def _failback(
    request: HttpRequest, pairing: Pairing, only: ReplicatedMachine | None
) -> HttpResponse:
    """Show the dialog; a POST with `check` only checks what was entered so far."""
    now = timezone.now()
    if request.method != "POST":
        return _dialog(request, draft_failback(pairing, now, only=only), 200)
    known = find_failback(sent_request_id(request))
    if known is not None:
        return redirect_after(request, _url_of(known))
    draft = draft_failback(pairing, now, request.POST, only=only)
    if "check" in request.POST:
        return _dialog(request, draft.as_checked(), 200)
    if not draft.is_valid():
        return _dialog(request, draft, 422)
    try:
        failback = start_failback(draft.order, request.user, draft.check)
    except JobConflict as conflict:
        return refuse(request, conflict.text)
    return redirect_after(request, _url_of(failback))


def _dialog(request: HttpRequest, draft: FailbackDraft, status: int) -> HttpResponse:
    context = {
        "draft": draft,
        "pairing": draft.pairing,
        "form": draft.form,
        "steps": steps_of(workflow.failback),
    }
    return render_dialog(request, _DIALOG, "Failback", context, status)


@require_safe
def failback_page(request: HttpRequest, failback_id: uuid.UUID) -> HttpResponse:
    """Show every machine's steps, live."""
    failback = get_failback_for(request.user, failback_id)
    context = {"failback": failback, "pairing": failback.pairing}
    return show_live(request, "replication/failback.html", gather_failback(failback), context)


@require_POST
def commit(request: HttpRequest, failback_id: uuid.UUID, entry_id: uuid.UUID) -> HttpResponse:
    """Remove one machine's VM; the machine stays at its source."""
    return _end(request, failback_id, entry_id, end.COMMIT, "is being committed")


@require_POST
def roll_back(request: HttpRequest, failback_id: uuid.UUID, entry_id: uuid.UUID) -> HttpResponse:
    """Run one machine at this site again."""
    return _end(request, failback_id, entry_id, end.ROLL_BACK, "is being rolled back")


def _end(
    request: HttpRequest, failback_id: uuid.UUID, entry_id: uuid.UUID, kind: str, what: str
) -> HttpResponse:
    failback = get_failback_for(request.user, failback_id)
    entry = (
        FailbackMachine.objects.select_related("failback", "machine")
        .filter(failback=failback, pk=entry_id)
        .first()
    )
    if entry is None:
        raise Http404
    try:
        end.end_failback(entry, kind, request.user)
    except JobConflict as conflict:
        return refuse(request, conflict.text)
    return redirect_after(
        request, _url_of(failback), toast=f"The failback of {entry.machine.name} {what}."
    )


@require_POST
def cancel(request: HttpRequest, failback_id: uuid.UUID, job_id: uuid.UUID) -> HttpResponse:
    """Cancel one machine's failback; its finished steps are undone."""
    return _act(request, failback_id, job_id, cancel_job, "is being cancelled")


@require_POST
def retry(request: HttpRequest, failback_id: uuid.UUID, job_id: uuid.UUID) -> HttpResponse:
    """Try one machine's job again, or continue it where it stopped."""
    return _act(request, failback_id, job_id, retry_job, "has resumed")


def _act(
    request: HttpRequest,
    failback_id: uuid.UUID,
    job_id: uuid.UUID,
    act: Callable[[Job, User], object],
    what: str,
) -> HttpResponse:
    failback = get_failback_for(request.user, failback_id)
    return act_on_job(request, failback.pk, job_id, act, what, _url_of(failback))


def _url_of(failback: Failback) -> str:
    return reverse("replication:failback", args=[failback.pk])
