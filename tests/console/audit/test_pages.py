"""The pages of the audit log: filters in the address, pages by number, facts, exports."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from console.audit import listing
from console.audit.__main__ import main
from console.audit.choices import ActorKind, Outcome
from console.audit.door import Actor, come_in
from console.audit.log import PendingEntry, Subject, chain_pending, read_head, record
from console.audit.models import Entry
from tests.console.audit.exports import WEB_01, make_entries
from tests.factories import make_machine
from tests.reading import as_read

ALICE = Actor(ActorKind.PERSON, "alice", "7", "192.0.2.7")


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ENTRIES_PER_PAGE", 3)


def numbers(client: Client, query: str = "") -> list[int]:
    """The numbers of the entries that the list shows."""
    response = client.get(f"/audit/?{query}")
    return [row["entry"].number for row in response.context["rows"]]


def at_noon_of(*days: str) -> None:
    """Make an entry on each of these days."""
    for day in days:
        record("x", "Done.")
        row = PendingEntry.objects.get()
        row.facts["at"] = f"{day}T12:00:00.000001+00:00"
        row.save()
        chain_pending()


def test_list_shows_the_newest_first(signed_in: Client) -> None:
    with come_in(ALICE):
        record("sign-in", "alice signed in.", WEB_01, outcome=Outcome.REFUSED, reason="Because.")

    page = as_read(signed_in.get("/audit/"))

    for text in ("alice", "Person, 192.0.2.7", "alice signed in.", "Sign in", "web-01", "Refused"):
        assert text in page
    assert numbers(signed_in) == [1]


def test_pages_follow_each_other_without_gap_and_back(signed_in: Client) -> None:
    make_entries(8)

    assert numbers(signed_in) == [8, 7, 6]
    assert numbers(signed_in, "older=6") == [5, 4, 3]
    assert numbers(signed_in, "older=3") == [2, 1]
    assert numbers(signed_in, "newer=2") == [5, 4, 3]
    assert numbers(signed_in, "newer=5") == [8, 7, 6]
    first, last = as_read(signed_in.get("/audit/")), as_read(signed_in.get("/audit/?older=3"))
    assert "older=6" in first
    assert "Newer" not in first
    assert "newer=2" in last
    assert "Older" not in last
    assert "Newer" not in as_read(signed_in.get("/audit/?newer=5"))


def test_filters_are_in_the_address_and_combine(signed_in: Client) -> None:
    make_entries(1)
    with come_in(ALICE):
        record("sign-in", "alice signed in.")
        record("job-start:snapshot", "Snapshot of db-01 started.", Subject("job", "9", "db-01"))
    chain_pending()

    assert numbers(signed_in, "person=alice") == [3, 2]
    assert numbers(signed_in, "act=sign-in") == [2]
    assert numbers(signed_in, "act=of-another-version") == []
    assert numbers(signed_in, "object=web-01") == [1]
    assert numbers(signed_in, "object=9") == [3]
    assert numbers(signed_in, "person=alice&object=db-01") == [3]
    assert numbers(signed_in, "person=alice&object=web-01") == []
    assert 'value="alice"' in signed_in.get("/audit/?person=alice").content.decode()


def test_pages_keep_the_filters(signed_in: Client) -> None:
    with come_in(ALICE):
        make_entries(5)

    page = signed_in.get("/audit/?person=alice").content.decode()

    assert "?person=alice&amp;older=3" in page
    assert numbers(signed_in, "person=alice&older=3") == [2, 1]


def test_days_belong_to_the_range(signed_in: Client) -> None:
    at_noon_of("2026-03-01", "2026-03-02", "2026-03-03")

    assert numbers(signed_in, "since=2026-03-02") == [3, 2]
    assert numbers(signed_in, "until=2026-03-02") == [2, 1]
    assert numbers(signed_in, "since=2026-03-02&until=2026-03-02") == [2]


@pytest.mark.parametrize("query", ["since=yesterday", "until=2026-13-01", "person=" + "x" * 300])
def test_wrong_filter_is_named_and_never_shows_other_entries(signed_in: Client, query: str) -> None:
    make_entries(1)

    response = signed_in.get(f"/audit/?{query}")

    assert response.status_code == 422
    assert b"errorlist" in response.content
    assert response.context["rows"] == []
    assert signed_in.get(f"/audit/export/?{query}").status_code == 422


@pytest.mark.parametrize("query", ["older=x", "newer=-1", "older=" + "9" * 40, "person=%00"])
def test_nonsense_in_the_address_does_no_harm(signed_in: Client, query: str) -> None:
    make_entries(1)

    assert signed_in.get(f"/audit/?{query}").status_code in (200, 422)


def test_entry_shows_all_its_facts_and_leads_to_its_object(signed_in: Client) -> None:
    machine = make_machine(name="web-01")
    subject = Subject("machine", str(machine.pk), "web-01")
    with come_in(ALICE):
        record("protected_machines:machine-pause", "Paused.", subject, reason="<b>Work</b>")
    chain_pending()
    entry = Entry.objects.get()

    page = as_read(signed_in.get("/audit/1/"))

    for text in (
        "alice",
        "192.0.2.7",
        "Pause protection",
        "Paused.",
        entry.digest,
        str(machine.pk),
    ):
        assert text in page
    assert "&lt;b&gt;Work&lt;/b&gt;" in page
    assert f'href="/machines/{machine.pk}/"' in page
    assert f"{entry.at:%Y-%m-%d %H:%M:%S.%f} UTC" in page


@pytest.mark.parametrize("number", ["2", "0", "9" * 30])
def test_entry_that_does_not_exist_is_not_found(signed_in: Client, number: str) -> None:
    make_entries(1)

    assert signed_in.get(f"/audit/{number}/").status_code == 404


def test_head_digest_is_shown_for_a_report(signed_in: Client) -> None:
    make_entries(2)

    digest = read_head().digest
    assert digest in signed_in.get("/audit/").content.decode()
    assert digest in signed_in.get("/settings/").content.decode()


def test_whole_export_is_a_chain_and_holds_itself(
    signed_in: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_LOT", 2)
    make_entries(5, reason="Zoë\n")

    response = signed_in.get("/audit/export/")
    path = tmp_path / "audit.jsonl"
    path.write_bytes(response.getvalue())

    assert ".jsonl" in response.headers["Content-Disposition"]
    assert main(["check", str(path), "--head", read_head().digest]) == 0
    last = json.loads(path.read_text().splitlines()[-1])
    assert (last["number"], last["act"], last["actor_name"]) == (6, "audit:export", "admin")


def test_filtered_export_says_that_it_is_no_chain(
    signed_in: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_entries(2)
    with come_in(ALICE):
        make_entries(2)

    response = signed_in.get("/audit/export/?person=alice")
    path = tmp_path / "audit.jsonl"
    path.write_bytes(response.getvalue())

    first, *rest = [json.loads(line) for line in path.read_text().splitlines()]
    assert (first["is_whole"], first["filter"]) == (False, {"person": "alice"})
    assert [row["number"] for row in rest] == [3, 4]
    assert "-part" in response.headers["Content-Disposition"]
    assert main(["check", str(path)]) == 1
    assert "filtered export" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["/audit/", "/audit/1/", "/audit/export/"])
def test_pages_are_for_those_who_are_signed_in_and_only_for_reading(
    client: Client, signed_in: Client, url: str
) -> None:
    make_entries(1)

    assert client.get(url).headers["Location"].startswith("/account/login/")
    assert signed_in.post(url).status_code == 405


@pytest.mark.parametrize("url", ["/audit/", "/audit/?person=alice&since=2020-01-01", "/audit/1/"])
def test_number_of_queries_is_the_same_however_long_the_log_is(signed_in: Client, url: str) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert signed_in.get(url).status_code == 200
        return len(queries)

    with come_in(ALICE):
        make_entries(1)
    few = count()
    with come_in(ALICE):
        make_entries(10)

    assert count() == few <= 12


def test_filter_uses_an_index(db: None) -> None:
    day = datetime(2026, 3, 1, tzinfo=UTC).date()
    for filters, index in (
        (listing.Filters(person="alice"), "audit_by_actor"),
        (listing.Filters(act="sign-in"), "audit_by_act"),
        (listing.Filters(object="web-01"), "audit_by_object_name"),
    ):
        plan = filters.apply()[:50].explain()
        if connection.vendor == "sqlite":
            assert index in plan
    assert listing.Filters(since=day, until=day).apply()[:50].explain()
