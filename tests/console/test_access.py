"""Rules: what a role may do, why not, and what a URL without a rule is left to."""

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404

from console.accounts.access import check_may, get_for, may, refusal_for, role_of, rule_of
from console.accounts.roles import GRANTS, Permission, Role
from console.accounts.users import make_user, set_role


def test_door_gives_the_object(admin: User) -> None:
    assert get_for(admin, User.objects.all(), username="admin") == admin


def test_unknown_object_is_not_found(admin: User) -> None:
    with pytest.raises(Http404):
        get_for(admin, User.objects.all(), username="nobody")


def test_stranger_finds_nothing(admin: User) -> None:
    with pytest.raises(Http404):
        get_for(AnonymousUser(), User.objects.all(), username="admin")


def test_superuser_made_by_the_shell_is_an_administrator(admin: User) -> None:
    assert role_of(admin) is Role.ADMINISTRATOR


def test_closed_account_may_do_nothing(admin: User) -> None:
    admin.is_active = False

    assert not may(admin, Permission.STATUS)
    with pytest.raises(PermissionDenied, match="no role"):
        check_may(admin, Permission.STATUS)


def test_role_that_is_taken_away_takes_its_permissions_along(admin: User) -> None:
    make_user("ann", Role.ADMINISTRATOR)
    set_role(admin, Role.AUDITOR)

    assert role_of(User.objects.get(pk=admin.pk)) is Role.AUDITOR
    assert not may(User.objects.get(pk=admin.pk), Permission.CONFIGURE)


def test_refusal_names_the_role_and_who_may(db: None) -> None:
    operator = make_user("tom", Role.TEST_OPERATOR)

    assert refusal_for(operator, Permission.EXPORT) == ""
    assert refusal_for(operator, Permission.RECOVER) == (
        "Only recovery administrators and administrators may do this. Your role is test operator."
    )


def test_url_without_a_rule_is_left_to_administrators() -> None:
    permission = rule_of("somewhere:new")

    assert [role for role in Role if permission in GRANTS[role]] == [Role.ADMINISTRATOR]
