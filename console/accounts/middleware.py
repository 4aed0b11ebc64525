"""Before a view runs: a second factor, if this core demands one, and the rule of the URL."""

from collections.abc import Callable
from typing import Any

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from console.accounts.access import refusal_for, rule_of
from console.accounts.roles import Permission
from console.errors import permission_denied
from console.htmx import redirect_after


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


class SecondFactorMiddleware:
    """Lead whoever has no second factor to where they set one up, if this core demands one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponse | None:
        found = request.resolver_match
        if found is None or not _needs_second_factor(request):
            return None
        request.needs_second_factor = True  # type: ignore[attr-defined]
        if rule_of(found.view_name) is Permission.OWN_ACCOUNT:
            return None
        return redirect_after(request, reverse("mfa_index"))


def _needs_second_factor(request: HttpRequest) -> bool:
    if not settings.UNDERSTUDY_SECOND_FACTOR_REQUIRED or not request.user.is_authenticated:
        return False
    factors = Authenticator.objects.filter(user_id=request.user.pk)
    return not factors.exclude(type=Authenticator.Type.RECOVERY_CODES).exists()
