"""The Replication page: Outgoing and Incoming Replication."""

import hashlib
import uuid

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from console.htmx import is_fragment, render_page
from replication.pages.overview import gather_overview

TEMPLATE = "replication/page.html"


@require_safe
def replication_page(request: HttpRequest) -> HttpResponse:
    """Show both regions; the fragment updates them, with 204 if nothing has changed."""
    overview = gather_overview(
        timezone.now(), _core_of(request), _number(request.GET.get("page", ""))
    )
    query = request.GET.copy()
    query.pop("seen", None)
    context = {
        "overview": overview,
        "query": query.urlencode(),
        # Filled in below, because it is the digest of the fragment without it.
        "seen": "",
    }
    if is_fragment(request):
        response = render_page(request, TEMPLATE, context, fragment="regions")
        seen = hashlib.sha256(response.content).hexdigest()[:16]
        if request.GET.get("seen") == seen:
            return HttpResponse(status=204)
        context["seen"] = seen
    return render_page(request, TEMPLATE, context, fragment="regions")


def _core_of(request: HttpRequest) -> uuid.UUID | None:
    try:
        return uuid.UUID(request.GET.get("core", ""))
    except ValueError:
        return None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 1
