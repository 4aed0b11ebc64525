"""Fail Over: the dialog with its findings, the start, and the live page."""

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.dialogs import render_dialog, steps_of
from console.htmx import is_fragment, redirect_after, refuse
from console.jobs.acts import User, cancel_job, retry_job
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from replication.access import get_failover_for, get_pairing_for, get_replicated_for
from replication.failover import policy, workflow
from replication.failover.draft import FailoverDraft, draft_failover
from replication.failover.progress import gather_progress
from replication.failover.start import Rival, find_failover, find_rival, rival_of, start_failover
from replication.groups import act_on_job, sent_request_id, show_live
from replication.models import Failover, Pairing, ReplicatedMachine

_DIALOG = "replication/_fail_over.html"


@require_http_methods(["GET", "HEAD", "POST"])
def fail_over_core(request: HttpRequest, pairing_id: uuid.UUID) -> HttpResponse:
    """Choose from all machines of a source core."""
    pairing = get_pairing_for(request.user, pairing_id)
    if pairing.is_outgoing:
        raise Http404
    return _fail_over(request, pairing, None)


@require_http_methods(["GET", "HEAD", "POST"])
def fail_over_machine(request: HttpRequest, replicated_id: uuid.UUID) -> HttpResponse:
    """Fail one machine over."""
    replicated = get_replicated_for(request.user, replicated_id)
    if replicated.pairing.is_outgoing:
        raise Http404
    refusal = policy.refuse_machine_failover(replicated)
    if refusal and request.method != "POST":
        return refuse(request, f"{replicated.machine.name} cannot fail over: {refusal}")
    return _fail_over(request, replicated.pairing, replicated)


def _fail_over(
    request: HttpRequest, pairing: Pairing, only: ReplicatedMachine | None
) -> HttpResponse:
    """Show the dialog; a POST with `check` only checks what was entered so far."""
    now = timezone.now()
    if request.method != "POST":
        return _dialog(request, draft_failover(pairing, now, only=only), 200)
    known = find_failover(sent_request_id(request))
    if known is not None:
        return redirect_after(request, _url_of(known))
    if "check" in request.POST:
        draft = draft_failover(pairing, now, request.POST, only=only)
        return _dialog(request, draft.as_checked(), 200)
    rival = find_rival(pairing, _chosen_ids(request.POST))
    if rival is not None:
        return _refuse_for(request, rival)
    draft = draft_failover(pairing, now, request.POST, is_strict=True, only=only)
    if not draft.is_valid():
        return _dialog(request, draft, 422)
    try:
        failover = start_failover(draft.order, request.user, draft.check)
    except JobConflict as conflict:
        return _refuse_for(request, rival_of(conflict))
    return redirect_after(request, _url_of(failover))


def _chosen_ids(sent: Mapping[str, str]) -> list[uuid.UUID]:
    """Return the machines selected in a dialog; some may no longer be offered."""
    found = []
    for name in sent:
        key, _, field_name = name.rpartition("-")
        if field_name == "is_chosen":
            with suppress(ValueError):
                found.append(uuid.UUID(key))
    return found


def _dialog(request: HttpRequest, draft: FailoverDraft, status: int) -> HttpResponse:
    context = {
        "draft": draft,
        "pairing": draft.pairing,
        "form": draft.form,
        "steps": steps_of(workflow.failover),
    }
    return render_dialog(request, _DIALOG, "Fail Over", context, status)


def _refuse_for(request: HttpRequest, rival: Rival) -> HttpResponse:
    template = "_rival" if is_fragment(request) else "rival"
    return render(request, f"replication/{template}.html", {"rival": rival}, status=409)


@require_safe
def failover_page(request: HttpRequest, failover_id: uuid.UUID) -> HttpResponse:
    """Show every machine's steps, live."""
    failover = get_failover_for(request.user, failover_id)
    context = {"failover": failover, "pairing": failover.pairing}
    return show_live(request, "replication/failover.html", gather_progress(failover), context)


@require_POST
def cancel(request: HttpRequest, failover_id: uuid.UUID, job_id: uuid.UUID) -> HttpResponse:
    """Cancel one machine's failover; its finished steps are undone."""
    return _act(request, failover_id, job_id, cancel_job, "is being cancelled")


@require_POST
def retry(request: HttpRequest, failover_id: uuid.UUID, job_id: uuid.UUID) -> HttpResponse:
    """Try one machine's failover again, or continue it where it stopped."""
    return _act(request, failover_id, job_id, retry_job, "has resumed")


def _act(
    request: HttpRequest,
    failover_id: uuid.UUID,
    job_id: uuid.UUID,
    act: Callable[[Job, User], object],
    what: str,
) -> HttpResponse:
    failover = get_failover_for(request.user, failover_id)
    return act_on_job(request, failover.pk, job_id, act, what, _url_of(failover))


def _url_of(failover: Failover) -> str:
    return reverse("replication:failover", args=[failover.pk])
