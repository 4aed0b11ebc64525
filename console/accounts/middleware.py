"""Ask the rule of every URL before its view runs."""

from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from console.accounts.access import refusal_for, rule_of
from console.errors import permission_denied


class RulesMiddleware:
    """Refuse what the user's role may not do, whatever the method is.

    It stands behind Django's own middleware that sends visitors to sign-in, and leaves the pages
    that are open to visitors alone.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponse | None:
        found = request.resolver_match
        if found is None or not request.user.is_authenticated:
            return None
        refusal = refusal_for(request.user, rule_of(found.view_name))
        # Not raised: Django would log the way here with every refusal.
        return permission_denied(request, PermissionDenied(refusal)) if refusal else None
