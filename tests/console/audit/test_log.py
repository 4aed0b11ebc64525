"""The audit log: numbered without gaps, chained, append-only, whoever writes at the same time."""

import subprocess
import sys
from importlib import import_module
from itertools import pairwise

import pytest
from django.db import DatabaseError, connection, transaction

from console.audit.chain import NO_ENTRY, digest_of
from console.audit.choices import ActorKind, Outcome
from console.audit.door import Actor, come_in
from console.audit.log import read_head, record
from console.audit.models import AppendOnly, Entry, PendingEntry
from tests.console.audit.exports import WEB_01, make_entries


@pytest.mark.django_db
def test_entry_says_who_from_where_what_on_what_why_and_how_it_went() -> None:
    with come_in(Actor(ActorKind.PERSON, "alice", "7", "192.0.2.7")) as door:
        record("x", "Refused.", WEB_01, outcome=Outcome.REFUSED, reason="The site is lost.")
    read_head()

    (entry,) = Entry.objects.all()
    assert door.entries == 1
    assert entry.facts == {
        "number": 1,
        "at": f"{entry.at:%Y-%m-%dT%H:%M:%S.%f}Z",
        "actor_kind": "person",
        "actor_id": "7",
        "actor_name": "alice",
        "address": "192.0.2.7",
        "act": "x",
        "sentence": "Refused.",
        "object_kind": "machine",
        "object_id": WEB_01.id,
        "object_name": "web-01",
        "reason": "The site is lost.",
        "outcome": "refused",
        "previous_digest": NO_ENTRY,
        "digest": digest_of(entry.facts),
    }


@pytest.mark.django_db
def test_what_comes_through_no_door_is_done_by_this_core() -> None:
    (entry,) = make_entries(1)

    assert (entry.actor_kind, entry.actor_name, entry.address) == ("self", "Test core", "")


@pytest.mark.django_db
def test_each_entry_follows_on_the_one_before() -> None:
    entries = make_entries(3)

    assert [entry.number for entry in entries] == [1, 2, 3]
    assert all(after.previous_digest == before.digest for before, after in pairwise(entries))
    assert read_head().digest == entries[-1].digest


@pytest.mark.django_db
def test_head_of_an_empty_log_is_that_of_no_entry() -> None:
    assert (read_head().number, read_head().digest) == (0, NO_ENTRY)


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["nul \0", "half \ud800", 'Zoë\u2028 \n \\ "', "x" * 9000])
def test_any_text_is_stored_as_it_is_digested(text: str) -> None:
    record("x", text, reason=text)
    read_head()

    entry = Entry.objects.get()
    assert entry.digest == digest_of(entry.facts)


@pytest.mark.django_db(transaction=True)
def test_act_that_is_undone_leaves_no_entry() -> None:
    with transaction.atomic():
        record("x", "Never was.")
        transaction.set_rollback(True)

    assert read_head().number == 0
    assert not PendingEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_entry_is_in_the_chain_once_its_act_is_committed() -> None:
    with transaction.atomic():
        record("x", "Done.")
        assert not Entry.objects.exists()

    assert Entry.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_entries_that_a_dead_process_left_come_with_the_next() -> None:
    record("x", "First.")
    facts = {**Entry.objects.get().facts, "sentence": "Left by a process that died."}
    chained = ("number", "previous_digest", "digest")
    PendingEntry.objects.create(facts={k: v for k, v in facts.items() if k not in chained})

    record("x", "Third.")

    assert [one.sentence for one in Entry.objects.order_by("number")] == [
        "First.",
        "Left by a process that died.",
        "Third.",
    ]


_WRITER = """
import sys
import django
django.setup()
from django.conf import settings
from django.db import connection
settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = sys.argv[1]
from console.audit.log import record
for number in range(int(sys.argv[3])):
    record("x", f"writer {sys.argv[2]} act {number}")
"""


@pytest.mark.django_db(transaction=True)
def test_writers_in_several_processes_never_share_a_number_or_a_parent() -> None:
    writers, acts = 4, 25
    name = str(connection.settings_dict["NAME"])
    running = [
        subprocess.Popen([sys.executable, "-c", _WRITER, name, str(writer), str(acts)])
        for writer in range(writers)
    ]
    assert [process.wait(120) for process in running] == [0] * writers

    head = read_head()
    entries = list(Entry.objects.order_by("number"))
    assert [entry.number for entry in entries] == list(range(1, writers * acts + 1))
    assert all(after.previous_digest == before.digest for before, after in pairwise(entries))
    assert head.digest == entries[-1].digest
    for writer in range(writers):
        mine = [one.sentence for one in entries if one.sentence.startswith(f"writer {writer} ")]
        assert mine == [f"writer {writer} act {number}" for number in range(acts)]


@pytest.mark.django_db
def test_program_cannot_change_or_delete_entries() -> None:
    (entry,) = make_entries(1)

    for act in (
        entry.save,
        entry.delete,
        Entry.objects.all().delete,
        lambda: Entry.objects.update(reason="another"),
        lambda: Entry.objects.create(number=2),
    ):
        with pytest.raises(AppendOnly):
            act()
    entry.reason = "another"
    with pytest.raises(AppendOnly):
        Entry.objects.bulk_update([entry], ["reason"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement", ["UPDATE audit_entry SET reason = 'another'", "DELETE FROM audit_entry"]
)
def test_database_refuses_to_change_or_delete_entries(statement: str) -> None:
    make_entries(1)
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite" and statement.startswith("DELETE"):
            # tests/conftest.py drops it.
            cursor.execute(import_module("console.audit.migrations.0002_append_only")._SQLITE[1])
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            cursor.execute(statement)

    assert Entry.objects.get().reason == ""
