"""Add a source core that was reinstalled, by its one-time code."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from console.dialogs import render_dialog
from console.htmx import redirect_after
from replication.errors import ReplicationError
from replication.models import Pairing
from replication.peers.forms import SourceCoreForm
from replication.peers.pairing import add_source_core, find_replaced

_TITLE = "Add Source Core"
_TEXT = "Adds a core that replaces a lost one. The machines that run here can then fail back to it."


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Ask for address and code, and pair; the new core's page shows the certificate."""
    form = SourceCoreForm(request.POST or None, initial=_address_given(request), lost=_lost_cores())
    if form.is_valid():
        given = form.cleaned_data
        try:
            pairing = add_source_core(
                given["host"], given["port"], given["code"], replaces=_replaced(given)
            )
        except ReplicationError as error:
            form.add_error(None, error.text)
        else:
            count = pairing.machines.count()
            return redirect_after(
                request,
                reverse("replication:pairing", args=[pairing.pk]),
                toast=f"{pairing.peer_name} is now a source core. "
                f"{count} machines can fail back to it.",
            )
    status = 422 if form.is_bound else 200
    context = {"form": form, "text": _TEXT}
    return render_dialog(request, "replication/_add_core.html", _TITLE, context, status)


def _address_given(request: HttpRequest) -> dict[str, object]:
    """Return the address of the lost core, if the dialog was opened from its row."""
    return {name: request.GET[name] for name in ("host", "port") if name in request.GET}


def _lost_cores() -> list[tuple[str, str]]:
    return [
        (str(pairing.pk), f"{pairing.peer_name} ({pairing.address})")
        for pairing in Pairing.objects.incoming()
    ]


def _replaced(given: dict[str, Any]) -> Pairing | None:
    """Return the lost core that was chosen."""
    lost, chosen = Pairing.objects.incoming(), given["replaces"]
    if chosen == SourceCoreForm.SAME_ADDRESS:
        return find_replaced(lost, given["host"], given["port"])
    return None if chosen == SourceCoreForm.NO_CORE else lost.filter(pk=chosen).first()
