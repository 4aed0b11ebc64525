"""Sign-in: by username and password, held back after failures, closed to strangers."""

import runpy
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

import console.settings
from tests.factories import PASSWORD

FORM = {"login": "admin", "password": PASSWORD}


def test_sign_in_page_has_plain_labels(client: Client, db: None) -> None:
    page = client.get("/account/login/").content.decode()

    assert ">Username</label>" in page
    assert ">Password</label>" in page
    assert 'type="submit">Sign in</button>' in page
    assert "placeholder" not in page


def test_sign_in_leads_to_the_page_that_was_asked_for(client: Client, admin: User) -> None:
    response = client.post("/account/login/?next=/settings/", {**FORM, "next": "/settings/"})

    assert response.status_code == 302
    assert response.headers["Location"] == "/settings/"
    assert client.get("/settings/").status_code == 200


def test_sign_in_never_leads_to_another_site(client: Client, admin: User) -> None:
    response = client.post("/account/login/", {**FORM, "next": "https://elsewhere.example/"})

    assert response.headers["Location"] == "/"


def test_wrong_password_is_refused_without_saying_which_part(client: Client, admin: User) -> None:
    wrong = client.post("/account/login/", {**FORM, "password": "wrong"})
    unknown = client.post("/account/login/", {"login": "nobody", "password": "wrong"})

    text = "The username and/or password you specified are not correct."
    assert text in wrong.content.decode()
    assert text in unknown.content.decode()


def test_sign_out_is_a_post(signed_in: Client) -> None:
    assert signed_in.get("/account/logout/").status_code == 200
    assert signed_in.get("/").status_code == 200

    signed_in.post("/account/logout/")

    assert signed_in.get("/").status_code == 302


@pytest.mark.parametrize("url", ["/account/signup/", "/account/email/", "/account/password/reset/"])
def test_there_is_no_sign_up_and_no_mail(signed_in: Client, url: str) -> None:
    assert signed_in.get(url).status_code == 404


def test_password_can_be_changed(signed_in: Client, admin: User) -> None:
    new = "another long password"
    form = {"oldpassword": PASSWORD, "password1": new, "password2": new}

    response = signed_in.post("/account/password/", form)

    assert response.status_code == 302
    admin.refresh_from_db()
    assert admin.check_password(new)


def test_short_password_is_refused(signed_in: Client, admin: User) -> None:
    form = {"oldpassword": PASSWORD, "password1": "short", "password2": "short"}

    response = signed_in.post("/account/password/", form)

    assert "at least 12 characters" in response.content.decode()
    admin.refresh_from_db()
    assert admin.check_password(PASSWORD)


def test_cookies_are_this_cores_own(client: Client, admin: User) -> None:
    client.post("/account/login/", FORM)

    assert all(name.startswith("understudy_") for name in client.cookies)
    assert all(len(name.rsplit("_", 1)[1]) == 8 for name in client.cookies)


def test_no_script_and_no_other_site_gets_at_the_session(client: Client, admin: User) -> None:
    client.post("/account/login/", FORM)
    session = client.cookies[settings.SESSION_COOKIE_NAME]
    assert session["httponly"]
    assert session["samesite"] == "Lax"


def test_over_https_no_cookie_goes_over_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path))
    monkeypatch.setenv("UNDERSTUDY_HTTPS", "1")
    loaded = runpy.run_path(str(Path(console.settings.__file__)))
    assert loaded["SESSION_COOKIE_SECURE"]
    assert loaded["CSRF_COOKIE_SECURE"]
