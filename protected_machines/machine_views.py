"""The list of machines, a machine's page, and protecting a new one."""

import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from agent.errors import AgentError, AgentUnreachable, PairingClosed, WrongPairingCode
from console.dialogs import render_dialog
from console.htmx import is_fragment, redirect_after, refuse, render_page
from console.identity import this_core
from console.jobs.models import Job
from console.jobs.workflow import Waiting
from protected_machines.access import get_machine_for
from protected_machines.agents.connection import record_address
from protected_machines.agents.finding import find_moved, moved_machine
from protected_machines.agents.pairing import protect_machine
from protected_machines.choices import MachineKind
from protected_machines.forms import ProtectMachineForm, ScheduleForm
from protected_machines.menus import machine_menu
from protected_machines.models import Machine
from protected_machines.navigation import state_of
from protected_machines.ownership import act_refusal, ownership_trouble, trouble_text

MACHINES_PER_PAGE = 100
POINTS_PER_PAGE = 50
JOBS_SHOWN = 8


@require_safe
def machine_list(request: HttpRequest) -> HttpResponse:
    """Show every machine that this core protects or holds points of."""
    wanted = request.GET.get("q", "").strip()
    kind = request.GET.get("kind", "")
    machines = Machine.objects.with_newest_point().defer("agent_certificate_pem", "description")
    if wanted:
        machines = machines.filter(Q(name__icontains=wanted) | Q(host__icontains=wanted))
    if kind in MachineKind.values:
        machines = machines.filter(kind=kind)
    page = Paginator(machines, MACHINES_PER_PAGE).get_page(request.GET.get("page"))
    core_id = this_core().id
    rows = [
        {"machine": machine, "state": state_of(machine, core_id)} for machine in page.object_list
    ]
    context = {
        "rows": rows,
        "page": page,
        "wanted": wanted,
        "kind": kind,
        "kinds": MachineKind.choices,
    }
    return render_page(request, "protected_machines/machines.html", context, "machine-table")


@require_safe
def machine(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Show one machine: what it is, its points as one history, and its jobs.

    The body polls for a newer one; 204 if it would look the same (`seen`).
    """
    found = get_machine_for(request.user, machine_id)
    context = _machine_context(request, found)
    if not is_fragment(request):
        return render(request, "protected_machines/machine.html", context)
    template = "protected_machines/machine.html#machine-body"
    seen = _digest_of(context)
    if request.GET.get("seen") == seen:
        return HttpResponse(status=204)
    return HttpResponse(render_to_string(template, context, request=request))


def _machine_context(request: HttpRequest, found: Machine) -> dict[str, Any]:
    now = timezone.now()
    points = found.points.newest_first()
    page = Paginator(points, POINTS_PER_PAGE).get_page(request.GET.get("page"))
    newest = points.first() if page.number != 1 else next(iter(page.object_list), None)
    tone, state_text = state_of(found, this_core().id)
    jobs = list(Job.objects.filter(subject_id=found.pk).order_by("-created_at")[:JOBS_SHOWN])
    branch_count = points.filter(is_carried_on=False).count()
    context: dict[str, Any] = {
        "branch_count": branch_count,
        "branch_text": branch_text(branch_count),
        "machine": found,
        "tone": tone,
        "state_text": state_text,
        "newest_point": newest,
        "next_snapshot_at": found.next_snapshot_at(_last_success_of(found)),
        "now": now,
        "page": page,
        "totals": points.totals(),
        "jobs": jobs,
        "open_jobs": [job for job in jobs if job.is_open],
        "is_base_image_next": newest is None,
        "act_refusal": act_refusal(found),
        "owner_trouble": ownership_trouble(found),
        "moved": moved_machine(found),
        "owner_text": trouble_text(found),
        "menu": lambda: machine_menu(found),
    }
    context["seen"] = _digest_of(context)
    return context


def _last_success_of(machine: Machine) -> datetime | None:
    annotated: Any = Machine.objects.filter(pk=machine.pk).with_last_success().get()
    last_success_at: datetime | None = annotated.last_success_at
    return last_success_at


def branch_text(count: int) -> str:
    """Return what to know about points that are not on the main line."""
    points, they = (
        ("1 recovery point", "It") if count == 1 else (f"{count} recovery points", "They")
    )
    return (
        f"The machine continued without {points} in this list. {they} can still be "
        "restored and exported, but no later point builds on them."
    )


def _digest_of(context: dict[str, Any]) -> str:
    found: Machine = context["machine"]
    facts = [
        found.kind,
        found.host,
        found.port,
        found.connection_state,
        found.connection_error,
        found.is_paused,
        found.snapshot_interval_seconds,
        (found.owner_core_id, found.ownership_epoch, found.claim_core_id, found.claim_epoch),
        found.description,
        context["page"].number,
        context["totals"],
        context["branch_count"],
        str(context["moved"]),
        [(point.pk, point.state) for point in context["page"].object_list],
        [(job.pk, job.revision) for job in context["jobs"]],
        # Keeps the ages on the page no more than half a minute old.
        int(context["now"].timestamp()) // 30,
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


@require_http_methods(["GET", "HEAD", "POST"])
def machine_protect(request: HttpRequest) -> HttpResponse:
    """Protect a machine by the address and the one-time code of its agent."""
    form = ProtectMachineForm(request.POST or None)
    if request.method != "POST":
        return _protect_dialog(request, form)
    if not form.is_valid():
        return _protect_dialog(request, form, status=422)
    try:
        protected = protect_machine(**form.cleaned_data)
    except ValidationError as error:
        for field, texts in _by_field(error, form).items():
            form.add_error(field or None, texts)
    except (WrongPairingCode, PairingClosed) as error:
        form.add_error("code", str(error))
    except AgentUnreachable as error:
        form.add_error("host", str(error))
    except AgentError as error:
        form.add_error(None, f"{error} [{error.code}]")
    else:
        text = f"{protected.name} is protected. Its base image will be taken next."
        return redirect_after(request, protected.get_absolute_url(), text)
    return _protect_dialog(request, form, status=422)


def _by_field(error: ValidationError, form: ProtectMachineForm) -> dict[str, list[str]]:
    """Return the texts by the form's fields; those that belong to none, by the empty name."""
    found: dict[str, list[str]] = {}
    for field, texts in error.message_dict.items():
        found.setdefault(field if field in form.fields else "", []).extend(texts)
    return found


def _protect_dialog(
    request: HttpRequest, form: ProtectMachineForm, status: int = 200
) -> HttpResponse:
    return render_dialog(
        request,
        "protected_machines/_protect_machine.html",
        "Protect a machine",
        {"form": form},
        status,
    )


@require_POST
def machine_pause(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Stop taking points of the machine until protection is resumed."""
    found = get_machine_for(request.user, machine_id)
    refusal = act_refusal(found)
    if refusal:
        return refuse(request, refusal)
    found.set_paused(True)
    return redirect_after(request, found.get_absolute_url(), f"Protection of {found.name} paused.")


@require_POST
def machine_resume(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Resume taking points of the machine on schedule."""
    found = get_machine_for(request.user, machine_id)
    refusal = act_refusal(found)
    if refusal:
        return refuse(request, refusal)
    found.set_paused(False)
    return redirect_after(request, found.get_absolute_url(), f"Protection of {found.name} resumed.")


@require_POST
def machine_find(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Protect the machine where it announced itself, if its agent answers there."""
    found = get_machine_for(request.user, machine_id)
    refusal = act_refusal(found)
    if refusal:
        return refuse(request, refusal)
    try:
        agent = find_moved(found)
        with transaction.atomic():
            record_address(found.pk, agent)
    except Waiting as waiting:
        return refuse(request, f"{waiting.reason} {found.name} stays where it was.")
    except IntegrityError:
        return refuse(request, f"Another machine is protected at {agent.host}:{agent.port}.")
    return redirect_after(
        request, found.get_absolute_url(), f"{found.name} is protected at {agent.host} from now on."
    )


@require_http_methods(["GET", "HEAD", "POST"])
def schedule(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Set how often recovery points of the machine are taken."""
    found = get_machine_for(request.user, machine_id)
    refusal = act_refusal(found)
    if refusal:
        return refuse(request, refusal)
    form = ScheduleForm(request.POST or None, machine=found)
    if request.method == "POST" and form.is_valid():
        found.snapshot_interval_seconds = form.cleaned_data["interval_seconds"]
        found.save(update_fields=["snapshot_interval_seconds"])
        return redirect_after(request, found.get_absolute_url(), f"Schedule of {found.name} saved.")
    return render_dialog(
        request,
        "protected_machines/_schedule.html",
        "Snapshot schedule",
        {"form": form, "machine": found},
        422 if request.method == "POST" else 200,
    )
