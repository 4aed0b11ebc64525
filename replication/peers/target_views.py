"""Add a target core: confirm its certificate, then name an administrator."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts.access import check_can_change
from console.htmx import redirect_after
from replication.errors import ReplicationError
from replication.peers.core_dialogs import CoreDialog, find_fingerprint
from replication.peers.forms import CoreAddressForm, TargetCoreForm
from replication.peers.pairing import add_target_core

_DIALOG = CoreDialog(
    title="Add Target Core",
    text="Machines of this core can be replicated to the core at this address.",
    role="target",
    confirm_url_name="replication:target-core-confirm",
)


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Ask for the address, then show the certificate found there."""
    check_can_change(request.user)
    form = CoreAddressForm(request.POST or None)
    fingerprint = find_fingerprint(form) if form.is_valid() else None
    if fingerprint is None:
        return _DIALOG.ask_address(request, form)
    confirming = TargetCoreForm(initial={**form.cleaned_data, "fingerprint": fingerprint})
    return _DIALOG.ask_confirmation(request, confirming)


@require_POST
def confirm(request: HttpRequest) -> HttpResponse:
    """Pair with the core whose certificate was confirmed."""
    check_can_change(request.user)
    form = TargetCoreForm(request.POST)
    if not form.is_valid():
        return _DIALOG.ask_confirmation(request, form)
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
        return _DIALOG.ask_confirmation(request, form)
    return redirect_after(
        request,
        reverse("replication:page"),
        toast=f"{pairing.peer_name} is now a target core. Add machines to replicate.",
    )
