"""Passkeys as a second factor, in a real browser with an authenticator that DevTools provide."""

from collections.abc import Iterator

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, Page
from pytest_django.live_server_helper import LiveServer

from tests.browser import chromium, page_of
from tests.factories import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, live_server: LiveServer, admin: User) -> Iterator[Page]:
    """A page of someone who is signed in, on a device that keeps passkeys."""
    client = Client()
    client.force_login(admin)
    with page_of(browser, live_server, client) as page:
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        devtools.send(
            "WebAuthn.addVirtualAuthenticator",
            {
                "options": {
                    "protocol": "ctap2",
                    "transport": "internal",
                    "hasUserVerification": True,
                    "isUserVerified": True,
                    "automaticPresenceSimulation": True,
                }
            },
        )
        yield page


def test_passkey_is_added_and_used_at_sign_in(page: Page) -> None:
    page.goto("/account/second-factor/")
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Current password").or_(page.get_by_label("Password")).fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("heading", name="Recovery codes").wait_for()
    assert Authenticator.objects.get(type=Authenticator.Type.WEBAUTHN).wrap().name == "laptop"

    page.context.clear_cookies()
    page.goto("/account/login/?next=/account/second-factor/webauthn/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Use a Passkey").click()
    page.get_by_role("heading", name="Passkeys").wait_for()


def test_passkey_is_removed(client: Client, admin: User) -> None:
    passkey = Authenticator.objects.create(
        user=admin, type=Authenticator.Type.WEBAUTHN, data={"name": "laptop"}
    )
    client.force_login(admin)
    client.post("/account/confirm/", {"password": PASSWORD})
    url = f"/account/second-factor/webauthn/keys/{passkey.pk}/remove/"

    assert "“laptop” will no longer be accepted" in client.get(url).content.decode()
    client.post(url)

    assert not Authenticator.objects.exists()


def test_sign_in_without_a_passkey_does_not_offer_one(client: Client, admin: User) -> None:
    Authenticator.objects.create(user=admin, type=Authenticator.Type.TOTP, data={"secret": "x"})
    client.post("/account/login/", {"login": "admin", "password": PASSWORD})

    page = client.get("/account/second-factor/authenticate/").content.decode()

    assert "authenticator app" in page
    assert "Use a Passkey" not in page
