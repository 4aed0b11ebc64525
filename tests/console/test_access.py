"""The one door to an object: unknown is 404, read-only is 403."""

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404

from console.accounts.access import can_change, get_for, get_for_change


def test_door_gives_the_object(admin: User) -> None:
    assert get_for(admin, User.objects.all(), username="admin") == admin
    assert get_for_change(admin, User.objects.all(), username="admin") == admin


def test_unknown_object_is_not_found(admin: User) -> None:
    with pytest.raises(Http404):
        get_for(admin, User.objects.all(), username="nobody")


def test_stranger_finds_nothing(admin: User) -> None:
    with pytest.raises(Http404):
        get_for(AnonymousUser(), User.objects.all(), username="admin")


def test_closed_account_may_not_change(admin: User) -> None:
    admin.is_active = False

    assert not can_change(admin)
    with pytest.raises(PermissionDenied, match="not change anything"):
        get_for_change(admin, User.objects.all(), username="admin")
