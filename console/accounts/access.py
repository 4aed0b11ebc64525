"""Who may see an object, and who may change it.

Every room's `access.py` uses these functions, so that roles have one place to go. Today, every
account that can sign in is an administrator of the core.
"""

from typing import Any, TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.shortcuts import get_object_or_404

User = AbstractBaseUser | AnonymousUser
M = TypeVar("M", bound=Model)


def can_change(user: User) -> bool:
    """Return whether this user may change things on this core."""
    return user.is_authenticated and user.is_active


def check_can_change(user: User) -> None:
    """Refuse users who may only read.

    Raises:
        PermissionDenied: the page answers 403 with the reason.
    """
    if not can_change(user):
        raise PermissionDenied("Your account can view this core, but cannot change anything.")


def get_for(user: User, visible: QuerySet[M], **lookup: Any) -> M:
    """Return the object, or answer 404 if there is none that this user may see."""
    return get_object_or_404(visible if user.is_authenticated else visible.none(), **lookup)


def get_for_change(user: User, visible: QuerySet[M], **lookup: Any) -> M:
    """Return the object; 404 if this user may not see it, 403 if they may not change it."""
    found = get_for(user, visible, **lookup)
    check_can_change(user)
    return found
