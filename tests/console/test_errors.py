"""Error pages: in the design, and with the frame only for who is signed in."""

from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.test import Client, RequestFactory, override_settings
from django.urls import path

from console import errors
from console.urls import handler403, handler404, handler500, urlpatterns

__all__ = ["handler403", "handler404", "handler500"]


def forbidden(request: HttpRequest) -> None:
    raise PermissionDenied("Only the owner may do this.")


def broken(request: HttpRequest) -> None:
    raise RuntimeError("secret detail")


class Urls:
    """The console's addresses and two that fail."""

    handler403, handler404, handler500 = handler403, handler404, handler500
    urlpatterns = [*urlpatterns, path("forbidden/", forbidden), path("broken/", broken)]


@pytest.fixture
def failing_client(signed_in: Client) -> Any:
    signed_in.raise_request_exception = False
    with override_settings(ROOT_URLCONF=Urls):
        yield signed_in


def test_not_found_keeps_the_frame_for_who_is_signed_in(signed_in: Client) -> None:
    response = signed_in.get("/nowhere/")

    assert response.status_code == 404
    assert "Page not found" in response.content.decode()
    assert 'id="navigation"' in response.content.decode()


def test_not_found_shows_a_stranger_no_machines(client: Client, db: None) -> None:
    response = client.get("/nowhere/")

    assert response.status_code == 404
    assert 'id="navigation"' not in response.content.decode()


def test_not_found_tells_a_stranger_what_a_stranger_can_do(client: Client, db: None) -> None:
    page = client.get("/nowhere/").content.decode()

    assert "Check the address, or sign in and look for it from the home page." in page
    assert '<a class="button" href="/">Sign in</a>' in page
    assert client.get("/").headers["Location"] == "/account/login/?next=/"
    assert "navigation" not in page
    assert "tabs" not in page


def test_forbidden_says_why(failing_client: Client) -> None:
    response = failing_client.get("/forbidden/")

    assert response.status_code == 403
    assert "Only the owner may do this." in response.content.decode()


def test_server_error_says_nothing_of_the_inside(failing_client: Client) -> None:
    response = failing_client.get("/broken/")

    assert response.status_code == 500
    assert "Something went wrong" in response.content.decode()
    assert "secret detail" not in response.content.decode()


def test_server_error_page_needs_no_database() -> None:
    # Without the `db` fixture any query fails the test.
    response = errors.server_error(RequestFactory().get("/"))

    assert response.status_code == 500
    assert settings.UNDERSTUDY_CORE_NAME in response.content.decode()
    assert '<a class="button" href="/">Home</a>' in response.content.decode()


def test_form_without_a_token_is_explained(signed_in: Client, admin: object) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)

    response = client.post("/account/password/", {})

    assert response.status_code == 403
    assert "This form has expired" in response.content.decode()
