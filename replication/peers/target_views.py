"""Add a target core by its one-time code."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from console.dialogs import render_dialog
from console.htmx import redirect_after
from replication.errors import ReplicationError
from replication.peers.forms import TargetCoreForm
from replication.peers.pairing import add_target_core

_TITLE = "Add Target Core"
_TEXT = "Machines of this core can be replicated to the core at this address."


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Ask for address and code, and pair; the new core's page shows the certificate."""
    form = TargetCoreForm(request.POST or None)
    if form.is_valid():
        given = form.cleaned_data
        try:
            pairing = add_target_core(given["host"], given["port"], given["code"])
        except ReplicationError as error:
            form.add_error(None, error.text)
        else:
            return redirect_after(
                request,
                reverse("replication:pairing", args=[pairing.pk]),
                toast=f"{pairing.peer_name} is now a target core. Add machines to replicate.",
            )
    status = 422 if form.is_bound else 200
    context = {"form": form, "text": _TEXT}
    return render_dialog(request, "replication/_add_core.html", _TITLE, context, status)
