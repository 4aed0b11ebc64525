"""Both ends of a pairing in a browser: the code is made on one core and entered in the other."""

import re

import pytest
from playwright.sync_api import Page, expect

from replication.models import Pairing
from tests.places.peer_core import WRONG_CODE, PeerCore

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_code_is_made_and_shows_as_open(page: Page) -> None:
    page.goto("/settings/")
    page.get_by_role("link", name="Make a Pairing Code").click()
    dialog = page.get_by_role("dialog", name="Make a Pairing Code")
    dialog.get_by_role("button", name="Make Code").click()
    expect(dialog.locator("#pairing-code")).to_have_text(re.compile(r"^\w{4}(-\w{4}){3}$"))
    dialog.get_by_role("link", name="Done").click()
    expect(dialog).not_to_be_visible()
    row = page.get_by_role("region", name="Pair another core").get_by_role("row").nth(1)
    expect(row).to_contain_text("admin")
    expect(row).to_contain_text("Open")


def test_a_target_core_is_added_after_a_code_that_was_mistyped(page: Page, peer: PeerCore) -> None:
    page.goto("/replication/")
    page.get_by_role("button", name="Add Target Core").first.click()
    dialog = page.get_by_role("dialog", name="Add Target Core")
    dialog.get_by_label("Address").fill("127.0.0.1")
    dialog.get_by_label("Port").fill(str(peer.port))
    dialog.get_by_label("Pairing code").fill(WRONG_CODE)
    code = peer.pairing_code
    dialog.get_by_role("button", name="Add Target Core").click()
    expect(dialog).to_contain_text("does not accept this pairing code")
    dialog.get_by_label("Pairing code").fill(code)
    dialog.get_by_role("button", name="Add Target Core").click()
    expect(page.get_by_role("heading", name="DR site", level=1)).to_be_visible()
    groups = re.findall("....", peer.fingerprint)
    expect(page.get_by_role("region", name="Details")).to_contain_text(" ".join(groups))
    assert Pairing.objects.get().is_outgoing
