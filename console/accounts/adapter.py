"""Adapts django-allauth: no sign-up, no e-mail, and limits of our own for wrong attempts."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone

from console.accounts.addresses import client_address
from console.accounts.audited import record_sign_in, record_wrong
from console.accounts.limits import Attempt, Kind, TooManyAttempts, begin_attempt, note_signed_in
from console.wording import duration_human


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Administrators create accounts; visitors cannot."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_address(request)

    def authenticate(self, request: HttpRequest, **credentials: Any) -> AbstractBaseUser | None:
        """Check a password, at sign-in or when a user confirms who they are."""
        attempt = limited_attempt(Kind.PASSWORD, request, credentials.get("username", ""))
        user: AbstractBaseUser | None = super().authenticate(request, **credentials)
        if user is not None:
            attempt.was_right()
        else:
            record_wrong(Kind.PASSWORD, request, credentials.get("username", ""))
        return user

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """Sign in a user who has given all that is asked for."""
        super().login(request, user)
        note_signed_in(user.get_username(), client_address(request), timezone.now())
        record_sign_in(request, user)


def limited_attempt(kind: Kind, request: HttpRequest, username: str) -> Attempt:
    """Begin an attempt at a password or code.

    Raises:
        ValidationError: it comes too early; the form says how long to wait.
    """
    try:
        return begin_attempt(kind, username, client_address(request), timezone.now())
    except TooManyAttempts as error:
        wait = duration_human(max(1, round(error.wait_seconds)))
        raise ValidationError(
            f"Too many wrong {kind}s. This one was not checked. Try again in {wait}, or run "
            "manage.py unlock_sign_in on the core's computer."
        ) from error
