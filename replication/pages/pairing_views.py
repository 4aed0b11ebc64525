"""One core: its details and settings, and the acts on all its machines."""

import uuid

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.dialogs import render_dialog
from console.htmx import redirect_after, refuse
from console.identity import fingerprint_of
from protected_machines.choices import MachineKind
from protected_machines.errors import NotTheOwner
from protected_machines.models import Machine
from replication.access import get_pairing_for
from replication.errors import ReplicationError
from replication.heartbeat import refresh_core
from replication.models import Pairing
from replication.pages import menus
from replication.pages.forms import ChooseMachinesForm
from replication.pages.overview import gather_overview
from replication.pages.states import core_state
from replication.peers.connection import speaking_with
from replication.peers.forms import PairingSettingsForm
from replication.transfer.quota import find_quota_use
from replication.transfer.start import replicate_machine, start_replications

_FAILOVERS_SHOWN = 20


@require_safe
def details(request: HttpRequest, pairing_id: uuid.UUID) -> HttpResponse:
    """Show what this core knows about a peer."""
    pairing = get_pairing_for(request.user, pairing_id)
    now = timezone.now()
    overview = gather_overview(now, pairing.pk, 1)
    context = {
        "pairing": pairing,
        "core": next(core for core in overview.cores if core.pairing.pk == pairing.pk),
        "state": core_state(pairing, now),
        "fingerprint": fingerprint_of(pairing.peer_certificate_pem),
        "quota": find_quota_use(pairing),
        "failbacks": list(
            pairing.failbacks.select_related("requested_by").prefetch_related("machines__machine")[
                :_FAILOVERS_SHOWN
            ]
        ),
        "failovers": list(
            pairing.failovers.select_related("requested_by").prefetch_related("machines__machine")[
                :_FAILOVERS_SHOWN
            ]
        ),
    }
    return render(request, "replication/pairing.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest, pairing_id: uuid.UUID) -> HttpResponse:
    """Change how this core reaches its peer; that same peer must answer at a new address."""
    pairing = get_pairing_for(request.user, pairing_id)
    form = PairingSettingsForm(request.POST or None, pairing=pairing)
    if request.method == "POST" and form.is_valid():
        pairing.peer_name = form.cleaned_data["peer_name"]
        pairing.host, pairing.port = form.cleaned_data["host"], form.cleaned_data["port"]
        pairing.quota_bytes = form.quota_bytes
        trouble = _trouble_at(pairing) if {"host", "port"} & set(form.changed_data) else ""
        if not trouble:
            pairing.save(update_fields=["peer_name", "host", "port", "quota_bytes"])
            return redirect_after(
                request, reverse("replication:page"), toast=f"{pairing.peer_name} saved."
            )
        form.add_error(None, trouble)
    status = 422 if request.method == "POST" else 200
    context = {"form": form, "pairing": pairing}
    return render_dialog(request, "replication/_settings.html", "Settings", context, status)


def _trouble_at(pairing: Pairing) -> str:
    """Return why the peer does not answer at its new address; empty if it does."""
    try:
        with speaking_with(pairing, answer_timeout_seconds=10.0) as client:
            client.status()
    except ReplicationError as error:
        return error.text
    return ""


@require_http_methods(["GET", "HEAD", "POST"])
def add_machines(request: HttpRequest, pairing_id: uuid.UUID) -> HttpResponse:
    """Choose machines of this core to replicate to a target core."""
    pairing = get_pairing_for(request.user, pairing_id)
    offered = (
        Machine.objects.owned_here()
        .filter(kind__in=[MachineKind.PROTECTED, MachineKind.FAILED_OVER])
        .exclude(replications__pairing=pairing)
        .order_by("name")
    )
    choices = [(str(key), name) for key, name in offered.values_list("pk", "name")]
    form = ChooseMachinesForm(request.POST or None, choices=choices)
    if request.method == "POST" and form.is_valid():
        chosen = list(offered.filter(pk__in=form.cleaned_data["machines"]))
        try:
            for machine in chosen:
                replicate_machine(machine, pairing, request.user)
        except (NotTheOwner, ReplicationError) as error:
            return refuse(request, str(error))
        names = ", ".join(machine.name for machine in chosen)
        return redirect_after(
            request,
            reverse("replication:page"),
            toast=f"{names}: now replicated to {pairing.peer_name}.",
        )
    status = 422 if request.method == "POST" else 200
    context = {"form": form, "pairing": pairing, "has_choices": bool(choices)}
    return render_dialog(request, "replication/_add_machines.html", "Add Machines", context, status)


@require_POST
def pause(request: HttpRequest, pairing_id: uuid.UUID) -> HttpResponse:
    """Pause this pairing on this core; the other core learns about it."""
    pairing = get_pairing_for(request.user, pairing_id)
    refusal = menus.refuse_pause(pairing)
    if refusal:
        return refuse(request, refusal)
    pairing.set_paused(True)
    return _after(request, f"Replication with {pairing.peer_name} paused.")


@require_POST
def resume(request: HttpRequest, pairing_id: uuid.UUID) -> HttpResponse:
    """Resume this pairing on this core."""
    pairing = get_pairing_for(request.user, pairing_id)
    refusal = menus.refuse_resume(pairing)
    if refusal:
        return refuse(request, refusal)
    pairing.set_paused(False)
    return _after(request, f"Replication with {pairing.peer_name} resumed.")


@require_POST
def force(request: HttpRequest, pairing_id: uuid.UUID) -> HttpResponse:
    """Send missing points now, or ask the source core to send them."""
    pairing = get_pairing_for(request.user, pairing_id)
    refusal = menus.refuse_force(pairing, pairing.machines.count())
    if refusal:
        return refuse(request, refusal)
    if pairing.is_outgoing:
        refresh_core(pairing)
        started = start_replications(pairing, None, request.user)
    else:
        try:
            with speaking_with(pairing, answer_timeout_seconds=20.0) as client:
                started = list(client.ask_to_send())
        except ReplicationError as error:
            return refuse(request, error.text)
    if not started:
        return refuse(request, "None of its machines can be replicated now.")
    return _after(request, f"Sending {len(started)} of its machines now.")


def _after(request: HttpRequest, toast: str) -> HttpResponse:
    return redirect_after(request, reverse("replication:page"), toast=toast)
