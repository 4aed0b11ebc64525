"""A second factor can be set up, is asked for at sign-in, and can be turned off."""

import re

import pytest
from allauth.mfa.totp.internal.auth import (
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.contrib.auth.models import User
from django.test import Client

from tests.factories import PASSWORD

FORM = {"login": "admin", "password": PASSWORD}


def code_for(secret: str) -> str:
    """Return what an authenticator app shows now."""
    counter = next(iter(yield_hotp_counters_from_time()))
    return format_hotp_value(hotp_value(secret, counter))


@pytest.fixture
def secret(client: Client, admin: User) -> str:
    """The secret of a second factor that has just been turned on."""
    client.post("/account/login/", FORM)
    client.post("/account/confirm/", {"password": PASSWORD})
    page = client.get("/account/second-factor/totp/activate/").content.decode()
    found = re.search(r"<code>([A-Z2-7]{16,})</code>", page)
    assert found is not None
    response = client.post("/account/second-factor/totp/activate/", {"code": code_for(found[1])})
    assert response.headers["Location"] == "/account/second-factor/recovery-codes/"
    return found[1]


def test_setting_it_up_shows_recovery_codes(client: Client, secret: str) -> None:
    page = client.get("/account/second-factor/recovery-codes/").content.decode()

    assert len(re.findall(r"<li><code>", page)) == 10
    assert "10 of 10 unused." in page


def test_sign_in_asks_for_the_code(client: Client, secret: str) -> None:
    client.post("/account/logout/")

    response = client.post("/account/login/", FORM)

    assert response.headers["Location"] == "/account/second-factor/authenticate/"
    assert client.get("/").status_code == 302
    assert "Second factor" in client.get("/account/second-factor/authenticate/").content.decode()


def test_recovery_code_opens_the_account_once(client: Client, secret: str) -> None:
    recovery_code = _recovery_codes(client)[0]

    outcomes = []
    for _ in range(2):
        client.post("/account/logout/")
        client.post("/account/login/", FORM)
        client.post("/account/second-factor/authenticate/", {"code": recovery_code})
        outcomes.append(client.get("/").status_code)

    assert outcomes == [200, 302]


def test_it_can_be_turned_off(client: Client, secret: str, admin: User) -> None:
    assert client.get("/account/second-factor/totp/deactivate/").status_code == 200

    client.post("/account/second-factor/totp/deactivate/")

    client.post("/account/logout/")
    response = client.post("/account/login/", FORM)
    assert response.headers["Location"] == "/"


@pytest.mark.parametrize("page", ["totp/deactivate/", "recovery-codes/generate/"])
def test_changing_it_asks_who_it_is(client: Client, secret: str, page: str) -> None:
    recovery_code = _recovery_codes(client)[0]
    client.post("/account/logout/")
    client.post("/account/login/", FORM)
    client.post("/account/second-factor/authenticate/", {"code": recovery_code})

    response = client.get(f"/account/second-factor/{page}")

    assert response.status_code == 302
    assert response.headers["Location"].startswith("/account/confirm/?next=")
    assert "Confirm it is you" in client.get("/account/confirm/").content.decode()


def _recovery_codes(client: Client) -> list[str]:
    page = client.get("/account/second-factor/recovery-codes/").content.decode()
    return re.findall(r"<li><code>(\w+)</code>", page)
