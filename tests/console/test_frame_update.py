"""Navigation and job indicator renew themselves, and keep quiet while nothing changes."""

import re

from django.test import Client

HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/settings/"}


def test_update_replaces_navigation_and_jobs_out_of_band(signed_in: Client) -> None:
    fragment = signed_in.get("/frame/", headers=HTMX).content.decode()

    assert "<html" not in fragment
    assert 'id="frame-update"' in fragment
    assert 'id="navigation-content" hx-swap-oob="true"' in fragment
    assert 'id="running-jobs"' in fragment


def test_update_says_nothing_while_nothing_changes(signed_in: Client) -> None:
    first = signed_in.get("/frame/", headers=HTMX).content.decode()
    seen = re.search(r"seen=([0-9a-f]{16})", first)
    assert seen is not None

    again = signed_in.get(f"/frame/?seen={seen[1]}", headers=HTMX)

    assert again.status_code == 204
    assert again.content == b""


def test_page_itself_swaps_nothing_out_of_band(signed_in: Client) -> None:
    assert "hx-swap-oob" not in signed_in.get("/").content.decode()
