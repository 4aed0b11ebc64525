"""Add a target core: its certificate is shown first, then an administrator of it vouches."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts.access import check_can_change
from console.htmx import redirect_after
from console.identity import fingerprint_of
from replication.client import fetch_certificate
from replication.errors import ReplicationError
from replication.forms import TargetAddressForm, TargetCoreForm
from replication.pairing import add_target_core
from replication.views.dialogs import render_dialog

_TITLE = "Add Target Core"


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Ask for the address; then show the certificate that answers there."""
    check_can_change(request.user)
    form = TargetAddressForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        status = 422 if request.method == "POST" else 200
        return _address_dialog(request, form, status)
    host, port = form.cleaned_data["host"], form.cleaned_data["port"]
    try:
        fingerprint = fingerprint_of(fetch_certificate(host, port))
    except ReplicationError as error:
        form.add_error(None, error.text)
        return _address_dialog(request, form, 422)
    confirming = TargetCoreForm(initial={"host": host, "port": port, "fingerprint": fingerprint})
    return _confirm_dialog(request, confirming, 200)


@require_POST
def confirm(request: HttpRequest) -> HttpResponse:
    """Pair with the core whose certificate was confirmed."""
    check_can_change(request.user)
    form = TargetCoreForm(request.POST)
    if not form.is_valid():
        return _confirm_dialog(request, form, 422)
    chosen = form.cleaned_data
    try:
        pairing = add_target_core(
            chosen["host"],
            chosen["port"],
            chosen["username"],
            chosen["password"],
            chosen["fingerprint"],
        )
    except ReplicationError as error:
        form.add_error(None, error.text)
        return _confirm_dialog(request, form, 422)
    return redirect_after(
        request,
        reverse("replication:page"),
        toast=f"{pairing.peer_name} is a target core now. Add machines to replicate.",
    )


def _address_dialog(request: HttpRequest, form: TargetAddressForm, status: int) -> HttpResponse:
    return render_dialog(
        request, "replication/_add_target_core.html", _TITLE, {"form": form}, status
    )


def _confirm_dialog(request: HttpRequest, form: TargetCoreForm, status: int) -> HttpResponse:
    context = {
        "form": form,
        "fingerprint": form["fingerprint"].value(),
        "address": f"{form['host'].value()}:{form['port'].value()}",
    }
    return render_dialog(request, "replication/_confirm_target_core.html", _TITLE, context, status)
