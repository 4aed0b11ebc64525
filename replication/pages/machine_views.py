"""One replicated machine: its details, and what can be done to it."""

import uuid

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.dialogs import render_dialog
from console.htmx import redirect_after, refuse
from console.identity import this_core
from console.jobs.access import jobs_for
from console.jobs.choices import OPEN, JobState
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from protected_machines.access import get_machine_for
from protected_machines.errors import NotTheOwner
from replication.access import get_replicated_for
from replication.errors import ReplicationError
from replication.models import Pairing, ReplicatedMachine
from replication.pages import menus
from replication.pages.forms import ChooseTargetForm
from replication.pages.overview import MachineRow, machine_row
from replication.peers.connection import speaking_with
from replication.transfer.start import replicate_machine, start_replication

_JOBS_SHOWN = 20
_KINDS_SHOWN = (
    "replicate",
    "seed_drive",
    "failover",
    "failback",
    "failback_commit",
    "failback_roll_back",
    "restore_disks",
)


@require_safe
def details(request: HttpRequest, replicated_id: uuid.UUID) -> HttpResponse:
    """Show the state of one machine's replication, and its latest jobs."""
    replicated = get_replicated_for(request.user, replicated_id)
    subjects = [replicated.pk, replicated.machine_id]
    jobs = jobs_for(request.user).filter(subject_id__in=subjects, kind__in=_KINDS_SHOWN)
    under_way = {
        job.subject_id: job for job in jobs if job.state in (*OPEN, JobState.NEEDS_ATTENTION)
    }
    context = {
        "replicated": replicated,
        "machine": replicated.machine,
        "pairing": replicated.pairing,
        "row": _row_of(replicated, under_way),
        "jobs": list(jobs.order_by("-created_at")[:_JOBS_SHOWN]),
    }
    return render(request, "replication/machine.html", context)


def _row_of(replicated: ReplicatedMachine, jobs: dict[uuid.UUID, Job]) -> MachineRow:
    is_on_seed_drive = replicated.seed_drives.outstanding().exists()
    return machine_row(
        replicated,
        jobs,
        this_core().id,
        timezone.now(),
        is_on_seed_drive=is_on_seed_drive,
    )


@require_POST
def pause(request: HttpRequest, replicated_id: uuid.UUID) -> HttpResponse:
    """Pause this machine on this core; the other core learns about it."""
    replicated = get_replicated_for(request.user, replicated_id)
    refusal = menus.refuse_machine_pause(replicated)
    if refusal:
        return refuse(request, refusal)
    replicated.set_paused(True)
    return _after(request, f"Replication of {replicated.machine.name} paused.")


@require_POST
def resume(request: HttpRequest, replicated_id: uuid.UUID) -> HttpResponse:
    """Resume this machine on this core."""
    replicated = get_replicated_for(request.user, replicated_id)
    refusal = menus.refuse_machine_resume(replicated)
    if refusal:
        return refuse(request, refusal)
    replicated.set_paused(False)
    return _after(request, f"Replication of {replicated.machine.name} resumed.")


@require_POST
def force(request: HttpRequest, replicated_id: uuid.UUID) -> HttpResponse:
    """Send this machine's missing points now, or ask the source core to send them."""
    replicated = get_replicated_for(request.user, replicated_id)
    row = _row_of(replicated, {})
    refusal = menus.refuse_machine_force(replicated, row.machine_state)
    if refusal:
        return refuse(request, refusal)
    name = replicated.machine.name
    try:
        if replicated.pairing.is_outgoing:
            start_replication(replicated, request.user)
        else:
            with speaking_with(replicated.pairing, answer_timeout_seconds=20.0) as client:
                started = client.ask_to_send([replicated.machine_id])
            if not started:
                return refuse(request, f"{replicated.pairing.peer_name} cannot send {name} now.")
    except (JobConflict, ReplicationError) as error:
        return refuse(request, error.text)
    return _after(request, f"Sending {name} now.")


@require_http_methods(["GET", "HEAD", "POST"])
def replicate(request: HttpRequest, machine_id: uuid.UUID) -> HttpResponse:
    """Choose the target core to which a machine of this core is replicated."""
    machine = get_machine_for(request.user, machine_id)
    refusal = menus.refuse_replicate(machine)
    if refusal and request.method == "POST":
        return refuse(request, refusal)
    free = Pairing.objects.outgoing().exclude(machines__machine=machine)
    pairings = {str(pairing.pk): pairing for pairing in free}
    choices = [(key, pairing.peer_name) for key, pairing in pairings.items()]
    form = ChooseTargetForm(request.POST or None, choices=choices)
    if request.method == "POST" and form.is_valid():
        pairing = pairings[form.cleaned_data["pairing"]]
        try:
            replicate_machine(machine, pairing, request.user)
        except (NotTheOwner, ReplicationError) as error:
            return refuse(request, str(error))
        return redirect_after(
            request,
            reverse("replication:page"),
            toast=f"{machine.name} is now replicated to {pairing.peer_name}.",
        )
    status = 422 if request.method == "POST" else 200
    context = {"form": form, "machine": machine, "refusal": refusal}
    return render_dialog(request, "replication/_replicate.html", "Replicate", context, status)


def _after(request: HttpRequest, toast: str) -> HttpResponse:
    return redirect_after(request, reverse("replication:page"), toast=toast)
