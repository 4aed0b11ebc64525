"""The answers that every room gives: page or fragment, refusal, redirect, events."""

import json

import pytest
from django.contrib.messages import get_messages
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django_htmx.middleware import HtmxMiddleware

from console.htmx import is_fragment, redirect_after, refuse, with_event, with_toast


def make_request(**headers: str) -> HttpRequest:
    """Return a request as the middleware leaves it, with headers such as HX_Request="true"."""
    request = RequestFactory().get(
        "/", headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    HtmxMiddleware(lambda _: HttpResponse())(request)
    return request


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"HX_Request": "true"}, True),
        ({"HX_Request": "true", "HX_Boosted": "true"}, False),
        ({"HX_Request": "true", "HX_History_Restore_Request": "true"}, False),
    ],
)
def test_fragment_is_htmx_but_neither_boosted_nor_restored(
    headers: dict[str, str], expected: bool
) -> None:
    assert is_fragment(make_request(**headers)) is expected


def test_fragment_is_false_where_the_middleware_has_not_run() -> None:
    assert is_fragment(RequestFactory().get("/")) is False


def test_same_url_is_a_page_or_a_fragment(signed_in: Client) -> None:
    page = signed_in.get("/").content.decode()
    fragment = signed_in.get("/", headers={"HX-Request": "true"}).content.decode()

    assert "<html" in page
    assert "<html" not in fragment
    assert 'id="readiness"' in page
    assert 'id="readiness"' in fragment


def test_refusal_says_why_to_htmx(db: None) -> None:
    response = refuse(make_request(HX_Request="true"), "web-01 is <being> failed over.")

    assert response.status_code == 409
    text = response.content.decode()
    assert "web-01 is &lt;being&gt; failed over." in text
    assert "<html" not in text


def test_redirect_after_an_act(signed_in: Client) -> None:
    request = signed_in.get("/settings/").wsgi_request
    plain = redirect_after(request, "/jobs/", toast="Started.")
    assert plain.status_code == 303
    assert plain.headers["Location"] == "/jobs/"
    assert [str(message) for message in get_messages(request)] == ["Started."]


def test_redirect_after_an_act_for_htmx() -> None:
    response = redirect_after(make_request(HX_Request="true"), "/jobs/")

    assert response.headers["HX-Redirect"] == "/jobs/"
    assert response.content == b""


def test_events_add_up() -> None:
    response = with_toast(with_event(HttpResponse(), "jobs-changed"), "Paused.", "ok")

    assert json.loads(response.headers["HX-Trigger"]) == {
        "jobs-changed": None,
        "toast": {"text": "Paused.", "tone": "ok"},
    }
