"""What is done on the site, from the shell and over the core interface leaves an entry."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import CommandError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import URLPattern, get_resolver, reverse
from django.urls.converters import IntConverter, StringConverter, UUIDConverter

from console.accounts.roles import Role
from console.accounts.users import make_user
from console.audit.acts import known_acts, title_of
from console.audit.commands import AuditedCommand
from console.audit.log import chain_pending, record
from console.audit.middleware import site_door
from console.audit.models import Entry
from console.htmx import HttpResponseSeeOther, redirect_after, refuse
from replication.api import urls as core_interface
from tests.factories import PASSWORD, make_machine, make_vcenter

# Views that answer to POST and change nothing that the log has to hold, each with the reason.
NOT_RECORDED = {
    "account_login": "the adapter records it, with the name that was given",
    "mfa_download_recovery_codes": "changes nothing",
    "mfa_authenticate": "a part of signing in, recorded by the adapter",
}
LOOKS_THAT_ARE_RECORDED = {"audit:export"}
# Calls of the core interface that change something, each with what records it.
CALLS = {
    "pair": "accept_pairing",
    "announce": "an address, not a change of what anyone decided",
    "peer_status": "hear_claim, if it changes an owner",
    "machine": "_make_machine of both sides, hear_claim",
    "missing_points": "changes nothing",
    "replicas": "points that arrive, shown on the machine's page",
    "replica_file": "points that arrive",
    "replica_commit": "points that arrive",
    "force": "start_job",
    "survey_rescue_machine": "the gate",
    "restores": "start_job",
    "restart": "the gate",
    "ask": "changes nothing",
    "take_over": "take_ownership",
    "snapshots": "start_job",
    "job_cancel": "the job's journal",
}
MADE_UP: dict[type, object] = {
    IntConverter: 7,
    StringConverter: "seven",
    UUIDConverter: uuid.UUID(int=7),
}
COMMANDS_NOT_RECORDED = {"record_plans": "writes a file of the source tree"}


def patterns(entries: Any, taken: dict[str, Any], space: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name of each URL of the site, and an address with made-up IDs."""
    for entry in entries:
        converters = taken | entry.pattern.converters
        if not isinstance(entry, URLPattern):
            inner = f"{space}{entry.namespace}:" if entry.namespace else space
            yield from patterns(entry.url_patterns, converters, inner)
            continue
        name = f"{space}{entry.name}"
        made_up = {key: MADE_UP[type(converter)] for key, converter in converters.items()}
        yield name, reverse(name, kwargs=made_up)


URLS = sorted(patterns(get_resolver().url_patterns, {}))


def entries() -> list[Entry]:
    chain_pending()
    return list(Entry.objects.order_by("number"))


def sent_through_the_door(request: HttpRequest, user: User, response: HttpResponse) -> list[Entry]:
    request.user = user
    assert site_door(lambda asked: response)(request) is response
    return entries()


def test_every_view_that_changes_something_has_a_title(signed_in: Client) -> None:
    signed_in.raise_request_exception = False
    # Signing out comes last: the others answer to those who are signed in.
    urls = sorted(URLS, key=lambda one: one[0] == "account_logout")
    changing = {name for name, url in urls if signed_in.post(url).status_code != 405}

    titled = {name for name, _ in urls if name in known_acts()} - LOOKS_THAT_ARE_RECORDED
    assert changing == titled | set(NOT_RECORDED)


def test_every_act_on_the_site_that_succeeds_leaves_an_entry(
    admin: User, rf: RequestFactory
) -> None:
    for name, url in URLS:
        request = rf.post(url, {"reason": "Because."})

        entry = sent_through_the_door(request, admin, HttpResponseSeeOther("/"))[-1]

        assert (entry.act, entry.sentence, entry.outcome) == (name, title_of(name), "done")
        assert (entry.actor_kind, entry.actor_name) == ("person", "admin")
        assert entry.actor_id == str(admin.pk)
        assert (entry.address, entry.reason) == ("127.0.0.1", "Because.")


def test_entry_says_what_the_page_said(admin: User, rf: RequestFactory) -> None:
    request = rf.post("/vcenters/add/")
    request._messages = type("Messages", (), {"add": lambda *args: None})()  # type: ignore[attr-defined]

    (entry,) = sent_through_the_door(request, admin, redirect_after(request, "/", "vc1 added."))

    assert entry.sentence == "vc1 added."


def test_refusal_is_recorded_with_its_reason(admin: User, rf: RequestFactory) -> None:
    request = rf.post("/vcenters/add/")

    (entry,) = sent_through_the_door(request, admin, refuse(request, "It is in use."))

    assert (entry.outcome, entry.sentence) == ("refused", "It is in use.")


@pytest.mark.parametrize(("status", "outcome"), [(403, "refused"), (500, "failed")])
def test_act_that_does_not_happen_is_recorded(
    admin: User, rf: RequestFactory, status: int, outcome: str
) -> None:
    request = rf.post("/vcenters/add/")

    (entry,) = sent_through_the_door(request, admin, HttpResponse(status=status))

    assert (entry.outcome, entry.sentence) == (outcome, "Add a vCenter")


def test_refusal_is_recorded_although_its_transaction_had_recorded_more(
    admin: User, rf: RequestFactory
) -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        with transaction.atomic():
            record("job-start:failover", "Failover of web-01 was started.")
            transaction.set_rollback(True)
        return refuse(request, "Another job holds db-01.")

    request = rf.post("/vcenters/add/")
    request.user = admin
    site_door(answer)(request)

    assert [one.sentence for one in entries()] == ["Another job holds db-01."]


def test_what_a_role_may_not_do_is_recorded_with_the_reason(client: Client, db: None) -> None:
    vcenter = make_vcenter()
    client.force_login(make_user("helper", Role.HELPDESK))

    client.post(f"/vcenters/{vcenter.pk}/remove/", {"reason": "Why not?"})

    (entry,) = entries()
    assert (entry.actor_name, entry.outcome) == ("helper", "refused")
    assert "Your role is helpdesk" in entry.sentence


@pytest.mark.parametrize("status", [200, 404, 422])
def test_form_that_comes_back_is_no_act(admin: User, rf: RequestFactory, status: int) -> None:
    answer = HttpResponse(status=status)

    assert sent_through_the_door(rf.post("/vcenters/add/"), admin, answer) == []


def test_what_a_stranger_sends_is_no_act(db: None, rf: RequestFactory) -> None:
    request = rf.post("/vcenters/add/")
    answer = HttpResponseSeeOther("/account/login/")

    assert sent_through_the_door(request, AnonymousUser(), answer) == []  # type: ignore[arg-type]


def test_looking_is_no_act(admin: User, rf: RequestFactory) -> None:
    answer = HttpResponseSeeOther("/")

    assert sent_through_the_door(rf.get("/vcenters/add/"), admin, answer) == []


def test_object_is_named_though_the_act_removes_it(signed_in: Client) -> None:
    vcenter = make_vcenter()

    signed_in.post(f"/vcenters/{vcenter.pk}/remove/", {"reason": "Replaced."})

    (entry,) = entries()
    assert (entry.act, entry.outcome) == ("protected_machines:vcenter-remove", "done")
    assert (entry.object_kind, entry.object_id) == ("vcenter", str(vcenter.pk))
    assert (entry.object_name, entry.reason) == (vcenter.name, "Replaced.")
    assert entry.sentence == f"{vcenter.name} removed."


def test_job_that_is_ordered_on_the_site_is_recorded_once(signed_in: Client) -> None:
    machine = make_machine(name="web-01")

    signed_in.post(
        f"/machines/{machine.pk}/snapshot/", {"kind": "incremental", "request_id": uuid.uuid4()}
    )

    (entry,) = entries()
    assert (entry.act, entry.object_kind, entry.object_name) == (
        "job-start:snapshot",
        "job",
        "web-01",
    )
    assert (entry.actor_name, entry.sentence) == ("admin", "Snapshot of web-01 was started.")


def test_signing_in_and_out_is_recorded(client: Client, admin: User) -> None:
    client.post("/account/login/", {"login": "admin", "password": PASSWORD})
    client.post("/account/logout/")

    assert [(one.act, one.actor_name, one.outcome) for one in entries()] == [
        ("sign-in", "admin", "done"),
        ("account_logout", "admin", "done"),
    ]


def test_wrong_password_is_recorded_by_the_name_of_an_account_only(
    client: Client, admin: User
) -> None:
    client.post("/account/login/", {"login": "admin", "password": "wrong"})
    client.post("/account/login/", {"login": "my password", "password": "wrong"})

    assert [(one.act, one.actor_name, one.outcome) for one in entries()] == [
        ("sign-in-wrong:password", "admin", "refused"),
        ("sign-in-wrong:password", "an unknown account", "refused"),
    ]
    assert "my password" not in str([one.facts for one in entries()])


def commands() -> list[str]:
    rooms = ("console", "protected_machines", "replication")
    return sorted(name for name, app in get_commands().items() if str(app).startswith(rooms))


@pytest.mark.parametrize("name", commands())
def test_every_command_that_changes_something_is_recorded(name: str) -> None:
    command = load_command_class(get_commands()[name], name)

    assert isinstance(command, AuditedCommand) == (name not in COMMANDS_NOT_RECORDED)
    assert (f"manage.py:{name}" in known_acts()) == (name not in COMMANDS_NOT_RECORDED)


def test_command_is_recorded_with_its_options(admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "root-of-alice")

    call_command("unlock_sign_in", "admin", address="192.0.2.1")

    (entry,) = entries()
    assert (entry.actor_kind, entry.actor_name) == ("shell", "root-of-alice")
    assert (entry.act, entry.outcome) == ("manage.py:unlock_sign_in", "done")
    assert entry.sentence == "manage.py unlock_sign_in username=admin address=192.0.2.1"


def test_command_that_refuses_is_recorded(db: None) -> None:
    with pytest.raises(CommandError):
        call_command("unlock_sign_in", "nobody")

    (entry,) = entries()
    assert (entry.outcome, entry.sentence) == ("refused", "This core has no user nobody.")


def test_every_call_of_the_core_interface_that_changes_something_has_its_record() -> None:
    found = set()
    for pattern in core_interface.urlpatterns:
        view = pattern.callback
        request = RequestFactory().generic("PROBE", "/")
        allowed = view(request, **dict.fromkeys(pattern.pattern.converters, uuid.UUID(int=7)))
        if {"POST", "PUT", "DELETE"} & set(allowed.headers["Allow"].split(", ")):
            found.add(view.__name__)

    assert found == set(CALLS)
