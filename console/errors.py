"""Error pages in the console's design; without the frame for visitors who are not signed in."""

from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.csrf import requires_csrf_token

from console.htmx import is_fragment, saying


@dataclass(frozen=True)
class ErrorText:
    """What an error page says; to a visitor who is not signed in, with other advice."""

    title: str
    text: str
    advice: str
    visitor_advice: str = ""


_TEXTS = {
    403: ErrorText(
        "You are not allowed to do that",
        "Your account is not allowed to see or change this.",
        "Ask an administrator of this core.",
        "Sign in with an account that is.",
    ),
    404: ErrorText(
        "Page not found",
        "This page does not exist. What it showed may have been removed.",
        "Find machines in the navigation, and replication and jobs in the tabs above.",
        "Check the address, or sign in and look for it from the home page.",
    ),
    500: ErrorText(
        "Something went wrong",
        "The console ran into an internal error. Jobs are not affected and keep running.",
        "Try again. If it happens again, look in the console's log at the time of this page.",
    ),
}


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403, with the reason if the code gave one; as a fragment for htmx."""
    reason = str(exception or "")
    if is_fragment(request):
        return saying(reason, _refused(request, reason or _TEXTS[403].text))
    return saying(reason, _error(request, 403, reason))


def page_not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404. Reads the same whether the object never existed or may not be seen."""
    return _error(request, 404)


def server_error(request: HttpRequest) -> HttpResponse:
    """500. Uses neither database nor session: they may be what failed."""
    context = {
        "status": 500,
        "error": _TEXTS[500],
        "core_name": settings.UNDERSTUDY_CORE_NAME,
        "csp_nonce": getattr(request, "csp_nonce", ""),
    }
    return HttpResponse(render_to_string("console/error_bare.html", context), status=500)


@requires_csrf_token
def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form without a valid token: nearly always a page that was open too long."""
    text = ErrorText(
        "This form has expired",
        "You signed in again after opening it, or cookies are blocked. Nothing was changed.",
        "Go back, reload the page and try again.",
    )
    if is_fragment(request):
        return _refused(request, f"{text.title}. {text.text} {text.advice}")
    return render(request, _template(request), {"status": 403, "error": text}, status=403)


def _refused(request: HttpRequest, text: str) -> HttpResponse:
    return render(request, "console/_refusal.html", {"text": text}, status=403)


def _error(request: HttpRequest, status: int, reason: str = "") -> HttpResponse:
    context = {"status": status, "error": _TEXTS[status], "reason": reason}
    return render(request, _template(request), context, status=status)


def _template(request: HttpRequest) -> str:
    user = getattr(request, "user", None)
    is_inside = user is not None and user.is_authenticated
    return "console/error.html" if is_inside else "console/error_bare.html"
