"""Headers of every response, and what a fragment gets when the session is over."""

import secrets
from collections.abc import Callable
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.utils.cache import patch_vary_headers

from console.htmx import is_htmx

GetResponse = Callable[[HttpRequest], HttpResponse]

# `img-src data:` is for the QR code of the second factor, which is generated in memory.
_POLICY = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; font-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Set `request.csp_nonce`, and the policy that allows only scripts with that nonce."""

    def middleware(request: HttpRequest) -> HttpResponse:
        nonce = secrets.token_urlsafe(16)
        request.csp_nonce = nonce  # type: ignore[attr-defined]
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", _POLICY.format(nonce=nonce))
        return response

    return middleware


def fragments(get_response: GetResponse) -> GetResponse:
    """Add `HX-Request` to Vary, and send the whole browser to sign-in when the session is over."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        patch_vary_headers(response, ["HX-Request"])
        if is_htmx(request) and _asks_to_sign_in(response):
            return _sign_in_again(request)
        return response

    return middleware


def _asks_to_sign_in(response: HttpResponse) -> bool:
    location = response.headers.get("Location", "")
    return response.status_code == 302 and location.startswith(resolve_url(settings.LOGIN_URL))


def _sign_in_again(request: HttpRequest) -> HttpResponse:
    """Make htmx leave the page for sign-in, and return to it afterwards."""
    page = request.htmx.current_url_abs_path or "/"  # type: ignore[attr-defined]
    url = f"{resolve_url(settings.LOGIN_URL)}?{urlencode({'next': page})}"
    response = HttpResponse(status=401, headers={"HX-Redirect": url})
    patch_vary_headers(response, ["HX-Request"])
    return response
