"""Adapts django-allauth: no sign-up, no e-mail."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Administrators create accounts; visitors cannot."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False
