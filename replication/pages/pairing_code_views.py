"""Make the one-time code by which another core pairs with this one, and show what became of it."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from console.audit.log import record
from console.dialogs import render_dialog
from replication.models import PairingCode
from replication.pages.states import code_state
from replication.peers.pairing_codes import VALID_MINUTES, make_pairing_code

_TITLE = "Make a Pairing Code"
_ACT = "replication:pairing-code-make"
_CODES_SHOWN = 5


def pairing_section(_request: HttpRequest) -> Mapping[str, Any]:
    """Return the newest codes for the Settings page."""
    now = timezone.now()
    codes = PairingCode.objects.all()[:_CODES_SHOWN]
    return {"codes": [(code, code_state(code, now)) for code in codes]}


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def make(request: HttpRequest) -> HttpResponse:
    """Say what a code is for; make one, and show it this once."""
    context: dict[str, Any] = {
        "minutes": VALID_MINUTES,
        "port": settings.UNDERSTUDY_CORE_PORT,
    }
    if request.method == "POST":
        context["code"] = make_pairing_code(request.user.get_username())
        # The site's door takes an answer without a redirect for a form that came back.
        record(_ACT, f"A pairing code was made, valid for {VALID_MINUTES} minutes.")
    return render_dialog(request, "replication/_pairing_code.html", _TITLE, context)
