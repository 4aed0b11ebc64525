"""Settle Owner: whose a machine is that two cores claim, or that contradicts its owner."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods

from agent.errors import AgentError
from console.dialogs import render_dialog
from console.htmx import redirect_after, refuse
from protected_machines.access import get_machine_for
from protected_machines.errors import ClaimNotSettled
from protected_machines.forms import SettleOwnerForm
from protected_machines.ownership import trouble_text
from protected_machines.settlements import Choice, needs_address, possible_settlements
from protected_machines.settling import ask_agent, settle


@require_http_methods(["GET", "HEAD", "POST"])
def owner_settle(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Show what each core says, and settle it once someone has typed the machine's name."""
    machine = get_machine_for(request.user, machine_id)
    settlements = possible_settlements(machine)
    if not settlements:
        return refuse(request, f"Nobody disputes who owns {machine.name}.")
    form = SettleOwnerForm(request.POST or None, machine=machine, settlements=settlements)
    if request.method == "POST" and form.is_valid():
        choice, host = Choice(form.cleaned_data["choice"]), form.cleaned_data["host"]
        is_asked = choice is Choice.HERE and needs_address(machine)
        try:
            agent = ask_agent(machine, host, form.cleaned_data["port"]) if is_asked else None
            settle(machine, choice, agent)
        except ClaimNotSettled as error:
            return refuse(request, f"{error} [{error.code}]")
        except AgentError as error:
            form.add_error("host", f"{error} [{error.code}]")
        else:
            text = f"{machine.owner_core_name} owns {machine.name}."
            return redirect_after(request, machine.get_absolute_url(), text)
    context = {
        "form": form,
        "machine": machine,
        "settlements": settlements,
        "trouble_text": trouble_text(machine),
        "needs_address": needs_address(machine) and settlements[0].choice is Choice.HERE,
    }
    return render_dialog(
        request,
        "protected_machines/_settle_owner.html",
        "Settle Owner",
        context,
        422 if request.method == "POST" else 200,
    )
