"""Headers on every answer: Vary, the content security policy, and the way back to sign-in."""

import re

from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from console.middleware import fragments


def test_hx_request_is_added_to_vary_not_put_in_its_place() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={"Vary": "Cookie"})

    response = fragments(view)(RequestFactory().get("/"))

    assert response.headers["Vary"] == "Cookie, HX-Request"


def test_every_script_of_a_page_carries_the_nonce_of_its_policy(signed_in: Client) -> None:
    response = signed_in.get("/")

    policy = response.headers["Content-Security-Policy"]
    nonce = re.search(r"'nonce-([^']+)'", policy)
    assert nonce is not None
    scripts = re.findall(r"<script\b[^>]*>", response.content.decode())
    assert len(scripts) == 3
    assert all(f'nonce="{nonce[1]}"' in script for script in scripts)


def test_policy_allows_nothing_inline_and_nothing_from_elsewhere(signed_in: Client) -> None:
    policy = signed_in.get("/").headers["Content-Security-Policy"]

    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy


def test_nonce_is_new_each_time(signed_in: Client) -> None:
    policies = {signed_in.get("/").headers["Content-Security-Policy"] for _ in range(3)}

    assert len(policies) == 3


def test_session_over_sends_the_whole_browser_to_sign_in(client: Client, db: None) -> None:
    response = client.get(
        "/frame/",
        headers={
            "HX-Request": "true",
            "HX-Current-URL": "http://testserver/jobs/?state=failed",
        },
    )

    assert response.status_code == 401
    assert response.headers["HX-Redirect"] == "/account/login/?next=%2Fjobs%2F%3Fstate%3Dfailed"
    assert "HX-Request" in response.headers["Vary"]


def test_way_back_never_leads_to_another_site(client: Client, db: None) -> None:
    response = client.get(
        "/frame/",
        headers={"HX-Request": "true", "HX-Current-URL": "https://elsewhere.example/steal"},
    )

    assert response.headers["HX-Redirect"] == "/account/login/?next=%2F"
