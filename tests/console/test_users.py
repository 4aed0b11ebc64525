"""Settings → Users: invite, role, disable, sign out, second factor. An administrator stays."""

import re
from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from console.accounts.access import role_of
from console.accounts.invitations import VALID_HOURS, invite, let_choose_password
from console.accounts.models import Invitation
from console.accounts.roles import Role
from console.accounts.users import LastAdministrator, disable, make_user, set_role
from console.audit.log import chain_pending
from console.audit.models import Entry
from tests.factories import PASSWORD

CHOSEN = "several quite long words"
PASSWORDS = {"password1": CHOSEN, "password2": CHOSEN}


def link_in(text: str) -> str:
    """The path of the link that a page or a command shows."""
    found = re.search(r"/account/invitation/[\w-]+/", text)
    assert found is not None, text
    return found[0]


def can_sign_in(username: str, password: str) -> bool:
    client = Client()
    client.post("/account/login/", {"login": username, "password": password})
    return client.get("/").status_code == 200


def test_invited_person_chooses_name_and_password_once(signed_in: Client) -> None:
    form = {"name": "ann", "role": Role.HELPDESK}
    path = link_in(signed_in.post("/settings/users/invite/", form).content.decode())
    visitor = Client()

    assert "as helpdesk" in visitor.get(path).content.decode()
    response = visitor.post(path, {"username": "ann.lee", **PASSWORDS})

    assert response.headers["Location"] == "/account/login/"
    assert can_sign_in("ann.lee", CHOSEN)
    assert role_of(User.objects.get(username="ann.lee")) is Role.HELPDESK
    assert visitor.get(path).status_code == 404
    assert visitor.post(path, {"username": "bob", **PASSWORDS}).status_code == 404


def test_only_a_digest_of_the_link_is_stored(signed_in: Client) -> None:
    form = {"name": "ann", "role": Role.HELPDESK}
    path = link_in(signed_in.post("/settings/users/invite/", form).content.decode())
    token = path.split("/")[-2]

    assert token not in str(Invitation.objects.values())
    assert token not in signed_in.get("/settings/").content.decode()


def test_links_are_recorded_without_what_opens_them(signed_in: Client) -> None:
    form = {"name": "ann", "role": Role.HELPDESK}
    path = link_in(signed_in.post("/settings/users/invite/", form).content.decode())
    Client().post(path, {"username": "ann", **PASSWORDS})
    chain_pending()

    found = list(Entry.objects.order_by("number"))

    assert [(one.act, one.actor_name, one.sentence) for one in found] == [
        ("users:invite", "admin", "ann was invited as helpdesk."),
        ("account_invitation", "nobody", "ann chose a password by a link."),
    ]
    assert path.split("/")[-2] not in str([one.facts for one in found])


def test_link_expires(client: Client, db: None) -> None:
    long_ago = timezone.now() - timedelta(hours=VALID_HOURS, seconds=1)
    link = invite("ann", Role.AUDITOR, "admin", long_ago)

    assert client.post(link.path, {"username": "ann", **PASSWORDS}).status_code == 404
    assert not User.objects.exists()


def test_withdrawn_link_is_void(signed_in: Client) -> None:
    link = invite("ann", Role.AUDITOR, "admin", timezone.now())
    signed_in.post(f"/settings/users/invitations/{link.invitation.pk}/withdraw/")

    assert Client().get(link.path).status_code == 404


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"username": "ADMIN"}, "already a user"),
        ({"username": "a b"}, "Enter a valid username"),
        ({"password2": "another long password"}, "The two passwords differ."),
        ({"password1": "short", "password2": "short"}, "at least 12 characters"),
    ],
)
def test_wrong_choice_is_refused_and_the_link_stays(
    client: Client, admin: User, change: dict[str, str], complaint: str
) -> None:
    link = invite("ann", Role.AUDITOR, "admin", timezone.now())

    response = client.post(link.path, {"username": "ann", **PASSWORDS, **change})

    assert response.status_code == 422
    assert complaint in response.content.decode()
    assert client.get(link.path).status_code == 200


def test_name_that_is_taken_is_not_invited(signed_in: Client) -> None:
    form = {"name": "Admin", "role": Role.AUDITOR}

    assert signed_in.post("/settings/users/invite/", form).status_code == 422


def test_role_is_changed(signed_in: Client) -> None:
    ann = make_user("ann", Role.HELPDESK)

    signed_in.post(f"/settings/users/{ann.pk}/role/", {"role": Role.AUDITOR})

    assert role_of(User.objects.get(pk=ann.pk)) is Role.AUDITOR


def test_administrator_can_be_made_and_unmade_while_another_one_stays(admin: User) -> None:
    ann = make_user("ann", Role.ADMINISTRATOR)
    set_role(admin, Role.MANAGER)

    with pytest.raises(LastAdministrator, match="ann is the only administrator"):
        set_role(ann, Role.MANAGER)
    with pytest.raises(LastAdministrator):
        disable(ann)


def test_last_administrator_cannot_give_up_their_role(signed_in: Client, admin: User) -> None:
    make_user("ann", Role.ADMINISTRATOR)
    User.objects.filter(username="ann").update(is_active=False)

    response = signed_in.post(f"/settings/users/{admin.pk}/role/", {"role": Role.AUDITOR})

    assert response.status_code == 409
    assert "only administrator who can sign in" in response.content.decode()


def test_own_account_cannot_be_disabled(signed_in: Client, admin: User) -> None:
    make_user("ann", Role.ADMINISTRATOR)

    response = signed_in.post(f"/settings/users/{admin.pk}/disable/")

    assert response.status_code == 409
    assert "your own account" in response.content.decode()
    assert User.objects.get(pk=admin.pk).is_active


def test_disabled_user_is_out_at_once_and_stays_out_when_enabled(signed_in: Client) -> None:
    ann = make_user("ann", Role.HELPDESK)
    hers = Client()
    hers.force_login(ann)

    signed_in.post(f"/settings/users/{ann.pk}/disable/")
    assert hers.get("/").status_code == 302
    signed_in.post(f"/settings/users/{ann.pk}/enable/")
    assert hers.get("/").status_code == 302


def test_signing_out_everywhere_ends_only_that_users_sessions(signed_in: Client) -> None:
    ann = make_user("ann", Role.HELPDESK)
    phone, desk = Client(), Client()
    phone.force_login(ann)
    desk.force_login(ann)

    signed_in.post(f"/settings/users/{ann.pk}/sign-out/")

    assert [each.get("/").status_code for each in (phone, desk, signed_in)] == [302, 302, 200]


def test_second_factor_is_reset(signed_in: Client) -> None:
    ann = make_user("ann", Role.HELPDESK)
    Authenticator.objects.create(user=ann, type=Authenticator.Type.TOTP, data={})
    hers = Client()
    hers.force_login(ann)

    signed_in.post(f"/settings/users/{ann.pk}/second-factor/")

    assert not Authenticator.objects.exists()
    assert hers.get("/").status_code == 302


def test_new_password_ends_sessions_and_voids_older_links(signed_in: Client) -> None:
    ann = make_user("ann", Role.HELPDESK)
    hers = Client()
    hers.force_login(ann)
    older = let_choose_password(ann, "admin", timezone.now())
    path = link_in(signed_in.post(f"/settings/users/{ann.pk}/password/").content.decode())

    assert Client().get(older.path).status_code == 404
    Client().post(path, PASSWORDS)

    assert hers.get("/").status_code == 302
    assert can_sign_in("ann", CHOSEN)
    assert role_of(User.objects.get(pk=ann.pk)) is Role.HELPDESK


def test_auditor_reads_the_list_and_gets_no_further(db: None) -> None:
    auditor = Client()
    auditor.force_login(make_user("ann", Role.AUDITOR))

    page = auditor.get("/settings/").content.decode()

    assert 'id="users"' in page
    assert "Only administrators may do this. Your role is auditor." in page


def test_first_administrator_comes_by_a_link_of_the_shell(
    db: None, capsys: pytest.CaptureFixture[str]
) -> None:
    sign_in_page = Client().get("/account/login/").content.decode()
    assert "manage.py invite" in sign_in_page

    call_command("invite", "ann")
    path = link_in(capsys.readouterr().out)
    Client().post(path, {"username": "ann", **PASSWORDS})

    assert role_of(User.objects.get(username="ann")) is Role.ADMINISTRATOR
    assert "manage.py invite" not in Client().get("/account/login/").content.decode()


def test_invite_says_what_is_wrong(admin: User) -> None:
    with pytest.raises(CommandError, match="already has a user admin"):
        call_command("invite", "admin")


def test_locked_out_administrator_gets_back_in(
    admin: User, capsys: pytest.CaptureFixture[str]
) -> None:
    Authenticator.objects.create(user=admin, type=Authenticator.Type.TOTP, data={})
    User.objects.filter(pk=admin.pk).update(is_active=False)

    call_command("unlock_sign_in", "admin", "--link")
    path = link_in(capsys.readouterr().out)
    Client().post(path, PASSWORDS)

    assert can_sign_in("admin", CHOSEN)
    assert not can_sign_in("admin", PASSWORD)


def test_link_of_unlock_needs_a_user(db: None) -> None:
    with pytest.raises(CommandError, match="--link needs a user"):
        call_command("unlock_sign_in", "--link")


def test_second_factor_can_be_demanded(client: Client, db: None, settings: Settings) -> None:
    settings.UNDERSTUDY_SECOND_FACTOR_REQUIRED = True
    ann = make_user("ann", Role.HELPDESK)
    client.force_login(ann)

    assert client.get("/jobs/").headers["Location"] == "/account/second-factor/"
    assert client.get("/account/second-factor/").status_code == 200
    Authenticator.objects.create(user=ann, type=Authenticator.Type.TOTP, data={})
    assert client.get("/jobs/").status_code == 200
