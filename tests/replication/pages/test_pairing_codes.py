"""Settings → Pair another core: a code is made by a POST, shown once, and watched from then on."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from console.audit.choices import Outcome
from console.audit.log import chain_pending
from console.audit.models import Entry
from replication.models import PairingCode
from tests.reading import as_read

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
CODE = re.compile(r"[A-Z2-9]{4}(-[A-Z2-9]{4}){3}")


def make_url() -> str:
    return reverse("replication:pairing-code-make")


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "fragment"])
def test_a_code_is_shown_once(signed_in: Client, headers: dict[str, str]) -> None:
    opened = signed_in.get(make_url(), headers=headers)
    assert not CODE.search(as_read(opened))
    assert not PairingCode.objects.exists()
    made = signed_in.post(make_url(), headers=headers)
    assert ("<html" in made.content.decode()) == (not headers)
    assert "no-store" in made.headers["Cache-Control"]
    found = CODE.search(as_read(made))
    assert found
    for url in (make_url(), reverse("console:settings")):
        assert found[0] not in signed_in.get(url).content.decode()
    assert PairingCode.objects.get().made_by == "admin"


def test_a_code_that_was_made_is_in_the_audit_log_without_the_code(signed_in: Client) -> None:
    found = CODE.search(as_read(signed_in.post(make_url())))
    assert found
    chain_pending()
    entry = Entry.objects.get(act="replication:pairing-code-make")
    assert (entry.actor_name, entry.outcome) == ("admin", Outcome.DONE)
    assert found[0] not in repr(vars(entry))


def test_only_somebody_signed_in_makes_one(client: Client) -> None:
    assert client.post(make_url()).status_code == 302
    assert not PairingCode.objects.exists()


def test_settings_shows_what_became_of_the_codes(signed_in: Client) -> None:
    assert "Pair another core" in as_read(signed_in.get(reverse("console:settings")))
    for _ in range(2):
        signed_in.post(make_url())
    PairingCode.objects.filter(pk=PairingCode.objects.latest("pk").pk).update(wrong_tries=2)
    page = as_read(signed_in.get(reverse("console:settings")))
    assert re.search(r"Open.*2 wrong tries.*Not used", page)


def test_the_replication_page_says_how_to_become_a_target(signed_in: Client) -> None:
    assert make_url() in signed_in.get(reverse("replication:page")).content.decode()
