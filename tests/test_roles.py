"""Who may do what: every URL of the site × every role × every method, and every kind of job.

What each role may do stands here once more, so that a rule that gives away too much fails. A URL or
a kind of job that stands nowhere fails, too.
"""

import logging
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import ResolverMatch, URLPattern, URLResolver, get_resolver, resolve, reverse
from django.utils import timezone
from django_htmx.middleware import HtmxDetails
from pytest_django import Settings

from console.accounts.access import registered_rules
from console.accounts.invitations import invite
from console.accounts.middleware import RulesMiddleware
from console.accounts.roles import Role
from console.accounts.users import make_user
from console.audit.log import read_head, record
from console.jobs.access import acts_for
from console.jobs.models import Job
from console.jobs.workflow import newest_workflow, registered_workflows
from replication.models import Failback, FailbackMachine, Failover, SeedDrive
from tests.factories import PASSWORD, make_machine, make_recovery_point, make_vcenter
from tests.replication.rows import make_pairing, make_replicated

ADMINISTRATORS = {Role.ADMINISTRATOR}
RECOVERERS = {*ADMINISTRATORS, Role.RECOVERY_ADMINISTRATOR}
EXPORTERS = {*ADMINISTRATORS, Role.TEST_OPERATOR}
HELPERS = {*RECOVERERS, *EXPORTERS, Role.HELPDESK}
WATCHERS = {*HELPERS, Role.AUDITOR}
READERS = {*ADMINISTRATORS, Role.AUDITOR}
EVERYONE = set(Role)

ALLOWED = {
    "account_login": EVERYONE,
    "account_logout": EVERYONE,
    "account_inactive": EVERYONE,
    "account_invitation": EVERYONE,
    "account_reauthenticate": EVERYONE,
    "account_change_password": EVERYONE,
    "mfa_index": EVERYONE,
    "mfa_authenticate": EVERYONE,
    "mfa_reauthenticate": EVERYONE,
    "mfa_activate_totp": EVERYONE,
    "mfa_deactivate_totp": EVERYONE,
    "mfa_list_webauthn": EVERYONE,
    "mfa_add_webauthn": EVERYONE,
    "mfa_edit_webauthn": EVERYONE,
    "mfa_remove_webauthn": EVERYONE,
    "mfa_reauthenticate_webauthn": EVERYONE,
    "mfa_view_recovery_codes": EVERYONE,
    "mfa_generate_recovery_codes": EVERYONE,
    "mfa_download_recovery_codes": EVERYONE,
    "console:home": EVERYONE,
    "console:frame": EVERYONE,
    "console:settings": READERS,
    "console:healthz": EVERYONE,
    "console:readyz": EVERYONE,
    "audit:log": READERS,
    "audit:entry": READERS,
    "audit:export": READERS,
    "users:invite": ADMINISTRATORS,
    "users:withdraw": ADMINISTRATORS,
    "users:role": ADMINISTRATORS,
    "users:password": ADMINISTRATORS,
    "users:disable": ADMINISTRATORS,
    "users:enable": ADMINISTRATORS,
    "users:sign-out": ADMINISTRATORS,
    "users:second-factor": ADMINISTRATORS,
    "jobs:jobs": WATCHERS,
    "jobs:job": WATCHERS,
    "jobs:job-cancel": RECOVERERS,
    "jobs:job-retry": RECOVERERS,
    "jobs:job-undo": RECOVERERS,
    "jobs:job-release": RECOVERERS,
    "jobs:job-close": RECOVERERS,
    "protected_machines:machines": WATCHERS,
    "protected_machines:machine": WATCHERS,
    "protected_machines:machine-protect": ADMINISTRATORS,
    "protected_machines:machine-pause": ADMINISTRATORS,
    "protected_machines:machine-resume": ADMINISTRATORS,
    "protected_machines:machine-find": ADMINISTRATORS,
    "protected_machines:machine-schedule": ADMINISTRATORS,
    "protected_machines:owner-settle": ADMINISTRATORS,
    "protected_machines:snapshot-force": HELPERS,
    "protected_machines:export-start": EXPORTERS,
    "protected_machines:restore-start": ADMINISTRATORS,
    "protected_machines:archive-start": ADMINISTRATORS,
    "protected_machines:import-start": ADMINISTRATORS,
    "protected_machines:job-address": RECOVERERS,
    "protected_machines:job-screen": WATCHERS,
    "protected_machines:job-screenshot": WATCHERS,
    "protected_machines:rescue-medium": RECOVERERS,
    "protected_machines:vcenter-add": ADMINISTRATORS,
    "protected_machines:vcenter-check": ADMINISTRATORS,
    "protected_machines:vcenter-password": ADMINISTRATORS,
    "protected_machines:vcenter-remove": ADMINISTRATORS,
    "status:page": EVERYONE,
    "status:csv": EVERYONE,
    "status:pdf": EVERYONE,
    "status:core-objectives": ADMINISTRATORS,
    "status:machine-objectives": ADMINISTRATORS,
    "replication:page": WATCHERS,
    "replication:target-core-add": ADMINISTRATORS,
    "replication:source-core-add": ADMINISTRATORS,
    "replication:pairing-code-make": ADMINISTRATORS,
    "replication:pairing": WATCHERS,
    "replication:pairing-settings": ADMINISTRATORS,
    "replication:pairing-machines-add": ADMINISTRATORS,
    "replication:pairing-seed-drive": ADMINISTRATORS,
    "replication:pairing-consume": ADMINISTRATORS,
    "replication:pairing-pause": ADMINISTRATORS,
    "replication:pairing-resume": ADMINISTRATORS,
    "replication:pairing-force": ADMINISTRATORS,
    "replication:pairing-fail-over": RECOVERERS,
    "replication:pairing-failback": RECOVERERS,
    "replication:machine": WATCHERS,
    "replication:machine-pause": ADMINISTRATORS,
    "replication:machine-resume": ADMINISTRATORS,
    "replication:machine-force": ADMINISTRATORS,
    "replication:machine-fail-over": RECOVERERS,
    "replication:machine-failback": RECOVERERS,
    "replication:machine-seed-drive": ADMINISTRATORS,
    "replication:seed-drive-abandon": ADMINISTRATORS,
    "replication:protected-machine-replicate": ADMINISTRATORS,
    "replication:failover": WATCHERS,
    "replication:failover-cancel": RECOVERERS,
    "replication:failover-retry": RECOVERERS,
    "replication:failback": WATCHERS,
    "replication:failback-commit": RECOVERERS,
    "replication:failback-roll-back": RECOVERERS,
    "replication:failback-cancel": RECOVERERS,
    "replication:failback-retry": RECOVERERS,
}
# These are for visitors.
OPEN = {
    "account_login",
    "account_logout",
    "account_inactive",
    "mfa_authenticate",
    "console:healthz",
    "console:readyz",
    "account_invitation",
}
# Rules of these are those of the kind of job; the job of these tests is a failover.
BY_KIND_OF_JOB = {
    "jobs:job-cancel",
    "jobs:job-retry",
    "jobs:job-undo",
    "jobs:job-release",
    "jobs:job-close",
    "protected_machines:job-address",
}
# Who may act on jobs of a kind, and who may retry one. Other kinds are left to administrators.
ACTS = {
    "snapshot": (ADMINISTRATORS, HELPERS),
    "replicate": (ADMINISTRATORS, HELPERS),
    "export": (EXPORTERS, EXPORTERS),
    "restore_disks": (RECOVERERS, RECOVERERS),
    "failover": (RECOVERERS, RECOVERERS),
    "failback": (RECOVERERS, RECOVERERS),
    "failback_commit": (RECOVERERS, RECOVERERS),
    "failback_roll_back": (RECOVERERS, RECOVERERS),
    "restore": (ADMINISTRATORS, ADMINISTRATORS),
    "archive": (ADMINISTRATORS, ADMINISTRATORS),
    "import_archive": (ADMINISTRATORS, ADMINISTRATORS),
    "seed_drive": (ADMINISTRATORS, ADMINISTRATORS),
}
PAGES = {
    "console:home",
    "console:settings",
    "audit:log",
    "audit:entry",
    "jobs:jobs",
    "jobs:job",
    "protected_machines:machines",
    "protected_machines:machine",
    "status:page",
    "replication:page",
    "replication:pairing",
    "replication:machine",
    "replication:failover",
    "replication:failback",
}
REFUSED, WRONG_METHOD = 403, 405


def urls(
    resolver: URLResolver, taken: frozenset[str] = frozenset(), namespace: str = ""
) -> Iterator[tuple[str, tuple[URLPattern, frozenset[str]]]]:
    """Every URL of the site with its name and its arguments."""
    for pattern in resolver.url_patterns:
        arguments = taken | set(pattern.pattern.converters)
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from urls(pattern, arguments, inner)
        else:
            yield f"{namespace}{pattern.name}", (pattern, arguments)


SITE = dict(urls(get_resolver()))


def address(url_name: str, objects: dict[str, Any]) -> str:
    """The URL, with an object for each of its arguments."""
    return reverse(url_name, kwargs={key: objects[key] for key in SITE[url_name][1]})


def test_every_url_has_a_rule_and_an_expectation_and_each_of_these_a_url() -> None:
    assert set(registered_rules()) == set(SITE)
    assert set(ALLOWED) == set(SITE)


def test_every_kind_of_job_has_an_expectation() -> None:
    # Tests register kinds of their own.
    ours = {each.kind for each in registered_workflows() if is_ours(each.params.__module__)}

    assert ours == set(ACTS)


def is_ours(module: str) -> bool:
    return module.split(".")[0] in ("console", "protected_machines", "replication")


@pytest.fixture
def arguments(db: None) -> dict[str, Any]:
    """An object for every argument of a URL. Nobody answers at their addresses."""
    pairing = make_pairing(direction="incoming")
    replicated = make_replicated(pairing)
    machine, vcenter = make_machine(), make_vcenter(host="127.0.0.1", port=1)
    failover = Failover.objects.create(pairing=pairing, request_id=uuid.uuid4())
    failback = Failback.objects.create(pairing=pairing, request_id=uuid.uuid4())
    entry = FailbackMachine.objects.create(
        failback=failback, machine=replicated.machine, rescue_id=uuid.uuid4(), rescue_host="r"
    )
    drive = SeedDrive.objects.create(
        id=uuid.uuid4(), replicated=make_replicated(), folder="/mnt/drive"
    )
    record("sign-in", "Someone signed in.")
    return {
        "number": read_head().number,
        "machine_id": machine.pk,
        "core_id": pairing.peer_core_id,
        "point_id": make_recovery_point(machine).pk,
        "vcenter_id": vcenter.pk,
        "user_id": make_user("colleague", Role.HELPDESK).pk,
        "invitation_id": invite("ann", Role.AUDITOR, "admin", timezone.now()).invitation.pk,
        "token": "unknown",
        "pk": 1,
        "job_id": make_job("failover").pk,
        "pairing_id": pairing.pk,
        "replicated_id": replicated.pk,
        "failover_id": failover.pk,
        "failback_id": failback.pk,
        "entry_id": entry.pk,
        "seed_drive_id": drive.pk,
    }


@pytest.fixture
def quick_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def make_job(kind: str) -> Job:
    flow = newest_workflow(kind)
    return Job.objects.create(
        kind=kind,
        plan_version=flow.version,
        title=flow.title,
        queue=flow.queue,
        is_exclusive=False,
        params={},
        subject_id=uuid.uuid4(),
        subject_name="web-01",
    )


@dataclass(frozen=True)
class Answer:
    """What a URL answers to a method."""

    url_name: str
    method: str
    response: HttpResponse

    @property
    def is_refused(self) -> bool:
        return self.response.status_code == REFUSED

    @property
    def is_possible(self) -> bool:
        return self.response.status_code not in (REFUSED, WRONG_METHOD)


def answers(client: Client, arguments: dict[str, Any]) -> Iterator[Answer]:
    """What every URL answers; nothing that a request changes stays."""
    cookies = client.cookies.output().replace("Set-Cookie: ", "")
    for name in SITE:
        url = address(name, arguments)
        for method in ("GET", "POST"):
            client.cookies = SimpleCookie(cookies)
            with transaction.atomic():
                response = client.generic(method, url, headers={"HX-Request": "true"})
                yield Answer(name, method, response)
                transaction.set_rollback(True)


@pytest.mark.usefixtures("quick_passwords")
@pytest.mark.parametrize("role", list(Role), ids=str)
def test_role_may_do_what_the_table_says_and_nothing_else(
    arguments: dict[str, Any], role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "django.request")
    user = make_user("someone", role)
    user.set_password(PASSWORD)
    user.save()
    client = Client()
    client.force_login(user)

    wrong = [
        answer
        for answer in answers(client, arguments)
        if (answer.is_refused if role in ALLOWED[answer.url_name] else answer.is_possible)
    ]

    assert wrong == []


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_rule_asks_for_no_method(db: None, method: str) -> None:
    def unreachable(request: HttpRequest) -> HttpResponse:
        raise AssertionError("the view is not for the middleware to call")

    middleware = RulesMiddleware(unreachable)
    request = RequestFactory().generic(method, "/", headers={"HX-Request": "true"})
    request.htmx = HtmxDetails(request)
    for role in Role:
        request.user = make_user(role, role)
        for name, (pattern, _) in SITE.items():
            request.resolver_match = ResolverMatch(
                pattern.callback, (), {}, name.rpartition(":")[2], namespaces=name.split(":")[:-1]
            )
            answer = middleware.process_view(request)
            is_refused = answer is not None and answer.status_code == REFUSED
            is_left_to_the_view = name in BY_KIND_OF_JOB and role in WATCHERS
            assert is_refused is not (role in ALLOWED[name] or is_left_to_the_view)


@pytest.mark.parametrize("role", list(Role), ids=str)
def test_pages_offer_only_what_the_role_allows(arguments: dict[str, Any], role: Role) -> None:
    client = Client()
    client.force_login(make_user("someone", role))
    pages = {name for name in ALLOWED if name in PAGES and role in ALLOWED[name]}
    assert pages

    for page in pages:
        text = client.get(address(page, arguments)).content.decode()
        offered = {
            resolve(re.split("[?#]", url)[0]).view_name
            for url in re.findall(r' (?:href|action|hx-get|hx-post)="(/[^"]*)"', text)
            if not url.startswith("/static/")
        }
        assert "console:home" in offered
        assert {name for name in offered if role not in ALLOWED[name]} == set(), page


def test_what_a_role_does_not_allow_is_greyed_out_with_the_reason(
    arguments: dict[str, Any], client: Client
) -> None:
    client.force_login(make_user("someone", Role.HELPDESK))
    machine_id = arguments["machine_id"]
    url = reverse("protected_machines:export-start", args=[machine_id])

    page = client.get(reverse("protected_machines:machine", args=[machine_id])).content.decode()
    refusal = client.get(url, headers={"HX-Request": "true"}).content.decode()

    reason = "Only test operators and administrators may do this. Your role is helpdesk."
    assert f'aria-disabled="true" title="{reason}"' in page
    assert reason in refusal
    assert "<html" not in refusal


def test_visitor_gets_no_further_than_sign_in(arguments: dict[str, Any]) -> None:
    reached = {
        answer.url_name
        for answer in answers(Client(), arguments)
        if not answer.response.headers.get("HX-Redirect", "").startswith("/account/login/")
    }

    assert reached <= OPEN


@pytest.mark.parametrize("role", list(Role), ids=str)
def test_acts_on_a_job_follow_the_rule_of_its_kind(db: None, role: Role) -> None:
    user = make_user("someone", role)

    for kind in ACTS:
        acts, (actors, retriers) = acts_for(user, make_job(kind)), ACTS[kind]
        assert ("Your role is" in acts.retry.refusal) is (role not in retriers), kind
        for act in (acts.cancel, acts.undo, acts.close, acts.release):
            assert ("Your role is" in act.refusal) is (role not in actors), kind


def test_account_without_a_role_may_do_nothing(client: Client, db: None) -> None:
    client.force_login(get_user_model().objects.create_user("nobody"))

    response = client.get("/machines/")

    assert response.status_code == REFUSED
    assert "Your account has no role on this core." in response.content.decode()
