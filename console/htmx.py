"""Answer a URL with a page or a fragment, and the few responses that every act needs."""

import json
from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render


class HttpResponseSeeOther(HttpResponseRedirect):
    """303: the response to a POST, so that a reload does not post again."""

    status_code = 303


def is_htmx(request: HttpRequest) -> bool:
    """Return whether htmx sent this request; False if its middleware has not run."""
    return bool(getattr(request, "htmx", False))


def is_fragment(request: HttpRequest) -> bool:
    """Return whether a fragment is requested: by htmx, not boosted, not a history restore."""
    details = getattr(request, "htmx", None)
    if not details:
        return False
    return not details.boosted and not details.history_restore_request


def render_page(
    request: HttpRequest,
    template: str,
    context: Mapping[str, Any],
    fragment: str = "",
    status: int = 200,
) -> HttpResponse:
    """Render the page, or only its partial named `fragment` if a fragment is requested."""
    wants_fragment = bool(fragment) and is_fragment(request)
    name = f"{template}#{fragment}" if wants_fragment else template
    return render(request, name, dict(context), status=status)


def refuse(request: HttpRequest, text: str) -> HttpResponse:
    """Answer 409 with the reason: as a fragment for htmx, as a page otherwise."""
    template = "console/_refusal.html" if is_fragment(request) else "console/refused.html"
    return saying(text, render(request, template, {"text": text}, status=409))


def redirect_after(request: HttpRequest, url: str, toast: str | None = None) -> HttpResponse:
    """Send the browser to `url` after an act; the toast is shown there once."""
    if toast:
        messages.success(request, toast)
    if is_htmx(request):
        return saying(toast, HttpResponse(status=204, headers={"HX-Redirect": url}))
    return saying(toast, HttpResponseSeeOther(url))


def saying(text: str | None, response: HttpResponse) -> HttpResponse:
    """Tell the audit log what the response tells the user."""
    response.said = text or ""  # type: ignore[attr-defined]
    return response


def with_event(response: HttpResponse, name: str, detail: object = None) -> HttpResponse:
    """Add a client event to those that the response already triggers."""
    events = json.loads(response.headers.get("HX-Trigger", "{}"))
    events[name] = detail
    response.headers["HX-Trigger"] = json.dumps(events)
    return response


def with_toast(response: HttpResponse, text: str, tone: str = "ok") -> HttpResponse:
    """Have the page that receives this fragment show a toast."""
    return with_event(response, "toast", {"text": text, "tone": tone})
