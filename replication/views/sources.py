"""Add a source core that was set up anew: its certificate first, then an administrator of it."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts.access import check_can_change
from console.htmx import redirect_after
from console.identity import fingerprint_of
from replication.client import fetch_certificate
from replication.errors import ReplicationError
from replication.forms import SourceCoreForm, TargetAddressForm
from replication.models import Pairing
from replication.pairing import add_source_core, find_replaced
from replication.views.dialogs import render_dialog

_TITLE = "Add Source Core"


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Ask for the address; then show the certificate that answers there."""
    check_can_change(request.user)
    form = TargetAddressForm(request.POST or None, initial=_address_given(request))
    if request.method != "POST" or not form.is_valid():
        return _address_dialog(request, form, 422 if request.method == "POST" else 200)
    host, port = form.cleaned_data["host"], form.cleaned_data["port"]
    try:
        fingerprint = fingerprint_of(fetch_certificate(host, port))
    except ReplicationError as error:
        form.add_error(None, error.text)
        return _address_dialog(request, form, 422)
    replaced = find_replaced(Pairing.objects.incoming(), host, port)
    confirming = SourceCoreForm(
        lost=_lost_cores(),
        initial={
            "host": host,
            "port": port,
            "fingerprint": fingerprint,
            "replaces": str(replaced.pk) if replaced is not None else "",
        },
    )
    return _confirm_dialog(request, confirming, 200)


@require_POST
def confirm(request: HttpRequest) -> HttpResponse:
    """Pair with the core whose certificate was confirmed."""
    check_can_change(request.user)
    form = SourceCoreForm(request.POST, lost=_lost_cores())
    if not form.is_valid():
        return _confirm_dialog(request, form, 422)
    chosen = form.cleaned_data
    lost = Pairing.objects.incoming()
    replaces = lost.filter(pk=chosen["replaces"]).first() if chosen["replaces"] else None
    try:
        pairing = add_source_core(
            chosen["host"],
            chosen["port"],
            chosen["username"],
            chosen["password"],
            chosen["fingerprint"],
            replaces,
        )
    except ReplicationError as error:
        form.add_error(None, error.text)
        return _confirm_dialog(request, form, 422)
    count = pairing.machines.count()
    return redirect_after(
        request,
        reverse("replication:page"),
        toast=f"{pairing.peer_name} is a source core now; {count} machines can fail back to it.",
    )


def _address_given(request: HttpRequest) -> dict[str, object]:
    """Return the address of the lost core, where the dialog was opened from its row."""
    return {name: request.GET[name] for name in ("host", "port") if name in request.GET}


def _lost_cores() -> list[tuple[str, str]]:
    return [
        (str(pairing.pk), f"{pairing.peer_name} ({pairing.address})")
        for pairing in Pairing.objects.incoming()
    ]


def _address_dialog(request: HttpRequest, form: TargetAddressForm, status: int) -> HttpResponse:
    return render_dialog(
        request, "replication/_add_source_core.html", _TITLE, {"form": form}, status
    )


def _confirm_dialog(request: HttpRequest, form: SourceCoreForm, status: int) -> HttpResponse:
    context = {
        "form": form,
        "fingerprint": form["fingerprint"].value(),
        "address": f"{form['host'].value()}:{form['port'].value()}",
    }
    return render_dialog(request, "replication/_confirm_source_core.html", _TITLE, context, status)
