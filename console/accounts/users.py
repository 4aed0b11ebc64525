"""Make users and change them. A core always keeps an administrator who can sign in."""

import logging

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.contrib.sessions.models import Session
from django.db import transaction

from console.accounts.access import role_of
from console.accounts.models import GivenRole
from console.accounts.roles import Role

logger = logging.getLogger(__name__)

_LAST = "{user} is the only administrator who can sign in. Make someone else one first."


class LastAdministrator(Exception):
    """The change would leave the core without an administrator who can sign in."""


def make_user(username: str, role: Role) -> User:
    """Make a user who has no password yet."""
    user = User(username=username)
    user.set_unusable_password()
    user.save(force_insert=True)
    set_role(user, role)
    return user


def refuse_leaving(user: User) -> str:
    """Return why the user has to stay an administrator; empty if there is another one."""
    if role_of(user) is not Role.ADMINISTRATOR:
        return ""
    others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=user.pk)
    return "" if others.exists() else _LAST.format(user=user.get_username())


def refuse_disable(user: User, by: AbstractBaseUser | AnonymousUser) -> str:
    """Return why the account cannot be disabled; empty if it can."""
    if user == by:
        return "This is your own account. Another administrator can disable it."
    return refuse_leaving(user)


@transaction.atomic
def set_role(user: User, role: Role) -> None:
    """Give the user a role; an administrator is a superuser of Django's.

    Raises:
        LastAdministrator: nobody else is one.
    """
    if role != Role.ADMINISTRATOR:
        _check_another_stays(user)
    user.is_staff = user.is_superuser = role == Role.ADMINISTRATOR
    user.save(update_fields=["is_staff", "is_superuser"])
    user.given_role, _ = GivenRole.objects.update_or_create(user=user, defaults={"role": role})
    logger.info("role set user=%s role=%s", user.pk, role)


@transaction.atomic
def disable(user: User) -> None:
    """Close the account: it is signed out at once and cannot sign in.

    Raises:
        LastAdministrator: nobody else is one.
    """
    _check_another_stays(user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    sign_out_everywhere(user)
    logger.info("account disabled user=%s", user.pk)


def enable(user: User) -> None:
    """Open a closed account again, with the role that it had."""
    User.objects.filter(pk=user.pk).update(is_active=True)
    logger.info("account enabled user=%s", user.pk)


def sign_out_everywhere(user: User) -> int:
    """End all sessions of the user; return how many there were."""
    ended = [
        session.pk
        for session in Session.objects.iterator()
        if session.get_decoded().get("_auth_user_id") == str(user.pk)
    ]
    Session.objects.filter(pk__in=ended).delete()
    return len(ended)


def reset_second_factor(user: User) -> None:
    """Remove the user's second factors, and end all sessions: they may be someone else's."""
    Authenticator.objects.filter(user=user).delete()
    sign_out_everywhere(user)
    logger.info("second factor reset user=%s", user.pk)


def _check_another_stays(user: User) -> None:
    """Lock the administrators, so that two of them cannot take each other's role at once."""
    list(User.objects.select_for_update().filter(is_superuser=True).values_list("pk"))
    refusal = refuse_leaving(User.objects.get(pk=user.pk))
    if refusal:
        raise LastAdministrator(refusal)
