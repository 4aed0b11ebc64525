"""The two dialogs that add a core: its address, then its certificate and an administrator."""

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from console.dialogs import render_dialog
from console.identity import fingerprint_of
from replication.errors import ReplicationError
from replication.peers.client import fetch_certificate
from replication.peers.forms import CoreAddressForm, TargetCoreForm


@dataclass(frozen=True)
class CoreDialog:
    """The wording of both dialogs for one kind of core."""

    title: str
    text: str
    role: str
    confirm_url_name: str

    def ask_address(self, request: HttpRequest, form: CoreAddressForm) -> HttpResponse:
        """Show the first dialog, with 422 if the form was filled in wrongly."""
        context = {"form": form, "text": self.text}
        status = 422 if form.is_bound else 200
        return render_dialog(request, "replication/_add_core.html", self.title, context, status)

    def ask_confirmation(self, request: HttpRequest, form: TargetCoreForm) -> HttpResponse:
        """Show the second dialog, with 422 if the form was filled in wrongly."""
        context = {
            "form": form,
            "role": self.role,
            "confirm_url": reverse(self.confirm_url_name),
            "fingerprint": form["fingerprint"].value(),
            "address": f"{form['host'].value()}:{form['port'].value()}",
        }
        status = 422 if form.is_bound else 200
        return render_dialog(request, "replication/_confirm_core.html", self.title, context, status)


def find_fingerprint(form: CoreAddressForm) -> str | None:
    """Return the fingerprint of the core at the address; if none, the form has the reason."""
    try:
        certificate_pem = fetch_certificate(form.cleaned_data["host"], form.cleaned_data["port"])
    except ReplicationError as error:
        form.add_error(None, error.text)
        return None
    return fingerprint_of(certificate_pem)
