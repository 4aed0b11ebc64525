"""The home page's answer: worst first, honest, and made of what rooms report."""

import datetime
import uuid
from typing import Any

import pytest
from django.test import Client

from console import readiness
from console.readiness import Readiness, ReadinessState, decide, summarise

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def make_entry(name: str = "web-01", **changes: Any) -> Readiness:
    values: dict[str, Any] = {
        "machine_id": uuid.uuid5(uuid.NAMESPACE_DNS, name),
        "machine_name": name,
        "url": f"/machines/{name}/",
        "state": ReadinessState.READY,
        "headline": "Proven and recent",
    }
    return Readiness(**{**values, **changes})


def test_nothing_protected_is_said_so() -> None:
    verdict = decide(summarise([]))

    assert verdict.tone == "off"
    assert verdict.title == "Nothing is protected here yet"


@pytest.mark.parametrize(
    ("states", "tone", "title"),
    [
        (["ready"], "ok", "Yes: the machine could be recovered"),
        (["ready", "failed_over"], "ok", "Yes: all 2 machines could be recovered"),
        (["ready", "at_risk"], "warn", "Yes, but 1 machine at risk"),
        (["ready", "not_ready"], "bad", "Not everything: 1 machine could not be recovered"),
        (["not_ready", "not_ready"], "bad", "No"),
    ],
)
def test_answer_follows_the_worst(states: list[str], tone: str, title: str) -> None:
    entries = [
        make_entry(f"m{number}", state=ReadinessState(word)) for number, word in enumerate(states)
    ]

    verdict = decide(summarise(entries))

    assert (verdict.tone, verdict.title) == (tone, title)


def test_worst_machine_comes_first_then_by_name() -> None:
    summary = summarise(
        [
            make_entry("b"),
            make_entry("a"),
            make_entry("z", state=ReadinessState.NOT_READY),
            make_entry("c", state=ReadinessState.AT_RISK),
        ]
    )

    assert [entry.machine_name for entry in summary.machines] == ["z", "c", "a", "b"]


def test_two_rooms_on_one_machine_add_up_to_the_worse() -> None:
    early = NOW - datetime.timedelta(hours=2)
    summary = summarise(
        [
            make_entry(reasons=("late",), newest_point_at=NOW, proven_at=early),
            make_entry(state=ReadinessState.NOT_READY, reasons=("damaged", "late"), proven_at=NOW),
        ]
    )

    (entry,) = summary.machines
    assert entry.state is ReadinessState.NOT_READY
    assert entry.reasons == ("damaged", "late")
    assert (entry.newest_point_at, entry.proven_at) == (NOW, NOW)


def test_oldest_proof_is_unknown_while_one_was_never_proven() -> None:
    assert summarise([make_entry("a", proven_at=NOW), make_entry("b")]).oldest_proof_at is None
    assert summarise([make_entry("a", proven_at=NOW)]).oldest_proof_at == NOW


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> list[Readiness]:
    """Entries of the only provider; the test fills in."""
    entries: list[Readiness] = []
    monkeypatch.setattr(readiness, "_providers", [lambda now: entries])
    return entries


def test_each_number_links_to_its_machines(signed_in: Client, provider: list[Readiness]) -> None:
    provider += [make_entry("web-01"), make_entry("db-01", state=ReadinessState.AT_RISK)]

    page = " ".join(signed_in.get("/").content.decode().split())
    at_risk = signed_in.get("/?show=at_risk").content.decode()

    assert '<a class="figure is-warn" href="?show=at_risk"><b>1</b>' in page
    assert "/machines/db-01/" in at_risk
    assert "/machines/web-01/" not in at_risk


def test_only_the_worst_are_shown_until_all_are_asked_for(
    signed_in: Client, provider: list[Readiness]
) -> None:
    provider += [make_entry(f"machine-{number:03}") for number in range(60)]

    assert "Showing the 50 worst of 60." in signed_in.get("/").content.decode()
    assert signed_in.get("/?show=all").content.decode().count("/machines/machine-") == 60


def test_empty_home_says_where_to_start(signed_in: Client, provider: list[Readiness]) -> None:
    page = signed_in.get("/").content.decode()

    assert "Where to start" in page
    assert "Protect a machine" in page
