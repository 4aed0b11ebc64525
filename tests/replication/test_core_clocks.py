"""The clocks of two cores are compared whenever they talk, and a difference is told to people."""

import json
import re
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import httpx
import pytest
from django.test import Client
from django.utils import timezone
from msgspec import UNSET, UnsetType
from pytest_django import Settings

from replication.clocks import clock_text, record_clock
from replication.failover.policy import CLOCK_FINDINGS
from replication.heartbeat import refresh_core, status_of
from replication.models import Pairing
from replication.pages.readiness import readiness
from replication.peers import wire
from tests.clocks import stepped
from tests.factories import NOON
from tests.replication.rows import PEER_SECRET, make_pairing, make_replicated

pytestmark = pytest.mark.django_db


def status_at(now: datetime | UnsetType) -> wire.PeerStatus:
    return wire.PeerStatus(core_id=uuid.uuid4(), name="DR site", now=now)


@pytest.fixture
def answer_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[wire.PeerStatus], None]:
    """Has the peer answer with this status."""

    def answering(status: wire.PeerStatus) -> None:
        response = httpx.Response(200, content=json.dumps(status.to_json()))
        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _self, _asked: response)

    return answering


@stepped
def test_a_call_measures_the_other_clock(
    answer_with: Callable[[wire.PeerStatus], None], step: timedelta
) -> None:
    pairing = make_pairing()
    answer_with(status_at(timezone.now() + step))
    assert refresh_core(pairing)
    pairing.refresh_from_db()
    assert pairing.clock_ahead_seconds == pytest.approx(step.total_seconds(), abs=5)
    # Put right again.
    answer_with(status_at(timezone.now()))
    assert refresh_core(pairing)
    pairing.refresh_from_db()
    assert pairing.clock_ahead_seconds == pytest.approx(0, abs=5)


def test_the_clock_of_an_older_version_is_not_known(
    answer_with: Callable[[wire.PeerStatus], None],
) -> None:
    pairing = make_pairing(clock_ahead_seconds=600)
    answer_with(status_at(UNSET))
    assert refresh_core(pairing)
    pairing.refresh_from_db()
    assert pairing.clock_ahead_seconds is None


def test_a_slow_answer_counts_from_the_middle_and_a_very_slow_one_not_at_all() -> None:
    pairing = make_pairing()
    record_clock(pairing, NOON + timedelta(seconds=130), NOON, took_seconds=20)
    assert pairing.clock_ahead_seconds == 120
    record_clock(pairing, NOON + timedelta(hours=1), NOON, took_seconds=31)
    assert pairing.clock_ahead_seconds == 120


@stepped
@pytest.mark.parametrize(
    ("error", "is_measured"), [("It did not respond in time.", True), ("", False)]
)
def test_a_caller_that_cannot_be_called_back_shows_its_clock_by_its_call(
    settings: Settings, step: timedelta, error: str, is_measured: bool
) -> None:
    settings.ROOT_URLCONF = "replication.api.urls"
    settings.MIDDLEWARE = []
    pairing = make_pairing(direction="incoming", connection_error=error)
    answer = Client().post(
        "/api/v1/status",
        json.dumps(status_at(timezone.now() + step).to_json()),
        content_type="application/json",
        headers={"Authorization": f"Understudy {pairing.pk}:{PEER_SECRET}"},
    )
    assert answer.status_code == 200
    told = wire.PeerStatus.from_json(answer.json()).now
    assert isinstance(told, datetime)
    assert abs(told - timezone.now()) < timedelta(minutes=1)
    pairing.refresh_from_db()
    if is_measured:
        assert pairing.clock_ahead_seconds == pytest.approx(step.total_seconds(), abs=5)
    else:
        assert pairing.clock_ahead_seconds is None


def test_every_status_tells_the_time() -> None:
    assert isinstance(status_of(make_pairing()).now, datetime)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, ""),
        (59, ""),
        (-59, ""),
        (60, "1 minute ahead of this core's"),
        (-600, "10 minutes behind this core's"),
        (365 * 86_400, "365 days ahead of this core's"),
        # The largest difference that two times on the wire can have.
        (-230 * 365 * 86_400, "83950 days behind this core's"),
    ],
)
def test_a_difference_is_told_from_a_minute_on(seconds: int | None, text: str) -> None:
    pairing = make_pairing(clock_ahead_seconds=seconds)
    assert clock_text(Pairing.objects.get(pk=pairing.pk).clock_ahead_seconds) == text


@pytest.mark.parametrize("direction", ["incoming", "outgoing"])
def test_the_pages_of_replication_tell_it(signed_in: Client, direction: str) -> None:
    pairing = make_pairing(direction=direction, clock_ahead_seconds=600)
    for url in ("/replication/", f"/replication/pairings/{pairing.pk}/"):
        page = signed_in.get(url).content.decode()
        shown = " ".join(re.sub(r"<[^>]+>", " ", page).split())
        assert "Its clock is 10 minutes ahead of this core&#x27;s" in shown, url
    Pairing.objects.update(clock_ahead_seconds=2)
    for url in ("/replication/", f"/replication/pairings/{pairing.pk}/"):
        assert "Its clock" not in signed_in.get(url).content.decode(), url


def test_the_home_page_and_the_dialog_warn_of_a_source_core_whose_clock_differs() -> None:
    assert "FAILOVER-CLOCKS-DIFFER" in CLOCK_FINDINGS
    pairing = make_pairing(
        direction="incoming", peer_name="Headquarters", clock_ahead_seconds=-3600
    )
    make_replicated(pairing)
    (entry,) = readiness(timezone.now())
    assert "The clock of Headquarters is 1 hour behind this core's" in " ".join(entry.reasons)
