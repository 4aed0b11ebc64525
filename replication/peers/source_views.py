"""Add a source core that was reinstalled: confirm its certificate, then name an administrator."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts.access import check_can_change
from console.htmx import redirect_after
from replication.errors import ReplicationError
from replication.models import Pairing
from replication.peers.core_dialogs import CoreDialog, find_fingerprint
from replication.peers.forms import CoreAddressForm, SourceCoreForm
from replication.peers.pairing import add_source_core, find_replaced

_DIALOG = CoreDialog(
    title="Add Source Core",
    text="Adds a core that replaces a lost one. The machines that run here can then fail back "
    "to it.",
    role="new source",
    confirm_url_name="replication:source-core-confirm",
)


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Ask for the address, then show the certificate found there."""
    check_can_change(request.user)
    form = CoreAddressForm(request.POST or None, initial=_address_given(request))
    fingerprint = find_fingerprint(form) if form.is_valid() else None
    if fingerprint is None:
        return _DIALOG.ask_address(request, form)
    given = form.cleaned_data
    replaced = find_replaced(Pairing.objects.incoming(), given["host"], given["port"])
    confirming = SourceCoreForm(
        lost=_lost_cores(),
        initial={
            **given,
            "fingerprint": fingerprint,
            "replaces": str(replaced.pk) if replaced is not None else "",
        },
    )
    return _DIALOG.ask_confirmation(request, confirming)


@require_POST
def confirm(request: HttpRequest) -> HttpResponse:
    """Pair with the core whose certificate was confirmed."""
    check_can_change(request.user)
    form = SourceCoreForm(request.POST, lost=_lost_cores())
    if not form.is_valid():
        return _DIALOG.ask_confirmation(request, form)
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
        return _DIALOG.ask_confirmation(request, form)
    count = pairing.machines.count()
    return redirect_after(
        request,
        reverse("replication:page"),
        toast=f"{pairing.peer_name} is now a source core. {count} machines can fail back to it.",
    )


def _address_given(request: HttpRequest) -> dict[str, object]:
    """Return the address of the lost core, if the dialog was opened from its row."""
    return {name: request.GET[name] for name in ("host", "port") if name in request.GET}


def _lost_cores() -> list[tuple[str, str]]:
    return [
        (str(pairing.pk), f"{pairing.peer_name} ({pairing.address})")
        for pairing in Pairing.objects.incoming()
    ]
