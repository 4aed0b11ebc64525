"""Every page of the frame: there for who is signed in, for nobody else, by GET alone."""

import pytest
from django.conf import settings
from django.test import Client

from agent.version import VERSION

PAGES = ("/", "/settings/", "/account/password/", "/account/second-factor/")
READ_ONLY = ("/", "/settings/", "/frame/")


@pytest.mark.parametrize("url", PAGES)
def test_page_has_the_frame(signed_in: Client, url: str) -> None:
    response = signed_in.get(url)

    assert response.status_code == 200
    page = response.content.decode()
    assert '<nav class="navigation" id="navigation" aria-label="Protected Machines">' in page
    assert settings.UNDERSTUDY_CORE_NAME in page
    assert f">Understudy {VERSION}</footer>" in page
    assert page.count("<h1>") == 1


@pytest.mark.parametrize("url", [*PAGES, "/frame/"])
def test_page_asks_to_sign_in_first(client: Client, db: None, url: str) -> None:
    response = client.get(url)

    assert response.status_code == 302
    assert response.headers["Location"] == f"/account/login/?next={url}"


@pytest.mark.parametrize("url", READ_ONLY)
def test_page_refuses_a_post(signed_in: Client, url: str) -> None:
    assert signed_in.post(url).status_code == 405


@pytest.mark.parametrize(
    ("url", "title"), [("/", "Home"), ("/settings/", "Settings"), ("/jobs/", "Jobs")]
)
def test_current_tab_is_marked(signed_in: Client, url: str, title: str) -> None:
    page = signed_in.get(url).content.decode()

    assert f'<a href="{url}" aria-current="page">{title}</a>' in page
    assert page.count('aria-current="page"') == 1


def test_settings_show_who_this_core_is(signed_in: Client) -> None:
    from console.identity import this_core

    page = signed_in.get("/settings/").content.decode()

    assert this_core().id in page
    assert this_core().fingerprint[:4] + " " + this_core().fingerprint[4:8] in page


def test_no_page_styles_an_element_inline_or_loads_from_elsewhere(signed_in: Client) -> None:
    for url in PAGES:
        page = signed_in.get(url).content.decode()
        assert ' style="' not in page
        assert 'src="http' not in page
        assert 'href="http' not in page
