"""The rules: which permission each page and act needs, and whether a user has it.

A rule belongs to a URL name. Each room keeps the rules of its objects in one table in its
`access.py`, and registers it. `RulesMiddleware` asks before every view, and menus and buttons ask
the same rule, so that what is greyed out is what would be refused, for the same reason.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.shortcuts import get_object_or_404

from console.accounts.roles import GRANTS, Permission, Role, roles_with

User = AbstractBaseUser | AnonymousUser
M = TypeVar("M", bound=Model)

_rules: dict[str, Permission] = {}


def register_rules(rules: Mapping[str, Permission]) -> None:
    """Add the rules of a room, by URL name. Called from an app's `ready()`."""
    _rules.update(rules)


def registered_rules() -> dict[str, Permission]:
    """Return the rule of each URL name."""
    return dict(_rules)


def rule_of(url_name: str) -> Permission:
    """Return what the URL needs; one without a rule is left to administrators."""
    return _rules.get(url_name, Permission.CONFIGURE)


def role_of(user: User) -> Role | None:
    """Return the user's role; None if the account is closed, or was never given one.

    Superusers are the administrators: also those that are made by Django's own commands.
    """
    if not (user.is_authenticated and user.is_active):
        return None
    if getattr(user, "is_superuser", False):
        return Role.ADMINISTRATOR
    given = getattr(user, "given_role", None)
    return Role(given.role) if given is not None else None


def may(user: User, permission: Permission) -> bool:
    """Return whether the user's role has the permission."""
    role = role_of(user)
    return role is not None and permission in GRANTS[role]


def refusal_for(user: User, permission: Permission) -> str:
    """Return why the user may not do that, and who may; empty if they may."""
    role = role_of(user)
    if role is None:
        return "Your account has no role on this core. Ask an administrator for one."
    if permission in GRANTS[role]:
        return ""
    others = [f"{each.label.lower()}s" for each in roles_with(permission)]
    allowed = " and ".join(filter(None, [", ".join(others[:-1]), others[-1]]))
    return f"Only {allowed} may do this. Your role is {role.label.lower()}."


def check_may(user: User, permission: Permission) -> None:
    """Refuse users whose role does not have the permission.

    Raises:
        PermissionDenied: the page answers 403 with the reason.
    """
    refusal = refusal_for(user, permission)
    if refusal:
        raise PermissionDenied(refusal)


def get_for(user: User, visible: QuerySet[M], **lookup: Any) -> M:
    """Return the object, or answer 404 if there is none that this user may see."""
    return get_object_or_404(visible if user.is_authenticated else visible.none(), **lookup)


_FRAME_RULES = {
    "console:home": Permission.STATUS,
    "console:frame": Permission.STATUS,
    "console:settings": Permission.SETTINGS,
    # Also for visitors.
    "console:healthz": Permission.OWN_ACCOUNT,
    "console:readyz": Permission.OWN_ACCOUNT,
}
_USER_RULES = {
    f"users:{name}": Permission.USERS
    for name in (
        "invite",
        "withdraw",
        "role",
        "password",
        "disable",
        "enable",
        "sign-out",
        "second-factor",
    )
}
# Sign-in, and what everyone does to their own account.
RULES = (
    _FRAME_RULES
    | _USER_RULES
    | dict.fromkeys(
        (
            "account_login",
            "account_logout",
            "account_inactive",
            "account_invitation",
            "account_reauthenticate",
            "account_change_password",
            "mfa_index",
            "mfa_authenticate",
            "mfa_reauthenticate",
            "mfa_activate_totp",
            "mfa_deactivate_totp",
            "mfa_list_webauthn",
            "mfa_add_webauthn",
            "mfa_edit_webauthn",
            "mfa_remove_webauthn",
            "mfa_reauthenticate_webauthn",
            "mfa_view_recovery_codes",
            "mfa_generate_recovery_codes",
            "mfa_download_recovery_codes",
        ),
        Permission.OWN_ACCOUNT,
    )
)
