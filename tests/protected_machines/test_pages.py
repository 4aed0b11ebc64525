"""The pages of machines: page, fragment, wrong method, no session, and what they say."""

import re
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from protected_machines.choices import ConnectionState, MachineKind, PointState
from protected_machines.models import Machine
from tests.factories import make_machine, make_recovery_point

pytestmark = pytest.mark.django_db

FRAGMENT = {"HX-Request": "true"}
OTHER_CORE = {"owner_core_id": uuid4(), "owner_core_name": "Headquarters"}


def page_of(client: Client, machine: Machine, **headers: Any) -> str:
    response = client.get(machine.get_absolute_url(), **headers)
    assert response.status_code == 200
    return str(response.content.decode())


def test_the_list_and_its_fragment(admin_client: Client) -> None:
    machine = make_machine(name="web-01")
    page = admin_client.get(reverse("protected_machines:machines")).content.decode()
    assert "<html" in page
    assert f'id="machine-{machine.id}"' in page
    fragment = admin_client.get(
        reverse("protected_machines:machines"), {"q": "web"}, headers=FRAGMENT
    ).content.decode()
    assert 'id="machine-table"' in fragment
    assert "<html" not in fragment


def test_the_list_finds_by_name_address_and_kind(admin_client: Client) -> None:
    make_machine(name="web-01", host="10.0.0.7")
    make_machine(name="db-01", kind=MachineKind.REPLICATED)
    url = reverse("protected_machines:machines")

    def shown(**query: str) -> set[str]:
        text = admin_client.get(url, query, headers=FRAGMENT).content.decode()
        return set(re.findall(r"(web-01|db-01)</a>", text))

    assert shown(q="WEB") == {"web-01"}
    assert shown(q="10.0.0.7") == {"web-01"}
    assert shown(kind="replicated") == {"db-01"}
    assert shown(q="nothing") == set()


def test_a_machines_page_and_fragment(admin_client: Client) -> None:
    machine = make_machine(name="web-01")
    point = make_recovery_point(machine, state=PointState.PROVEN)
    page = page_of(admin_client, machine)
    assert "<h1>web-01</h1>" in page
    assert f'id="point-{point.id}"' in page
    assert "Force Snapshot" in page
    assert "52:54:00:12:34:56" in page
    fragment = page_of(admin_client, machine, headers=FRAGMENT)
    assert f'id="machine-{machine.id}"' in fragment
    assert "<html" not in fragment


def test_a_fragment_that_looks_as_before_is_not_sent_again(admin_client: Client) -> None:
    machine = make_machine()
    fragment = page_of(admin_client, machine, headers=FRAGMENT)
    seen = re.search(r"\?seen=(\w+)", fragment)
    assert seen
    url = f"{machine.get_absolute_url()}?seen={seen[1]}&page=1"
    assert admin_client.get(url, headers=FRAGMENT).status_code in (200, 204)
    make_recovery_point(machine)
    assert admin_client.get(url, headers=FRAGMENT).status_code == 200


def test_points_of_two_cores_are_one_history(admin_client: Client) -> None:
    machine = make_machine(kind=MachineKind.FAILED_OVER)
    make_recovery_point(machine, taken_by_core_name="Headquarters")
    make_recovery_point(machine, taken_by_core_name="DR site", ownership_epoch=2)
    page = page_of(admin_client, machine)
    assert page.index("DR site") < page.index("Headquarters")


def test_a_machine_that_another_core_owns_says_why_it_cannot_be_snapshot(
    admin_client: Client,
) -> None:
    machine = make_machine(kind=MachineKind.REPLICATED, ownership_epoch=4, **OTHER_CORE)
    page = page_of(admin_client, machine)
    button = re.search(r"<button[^>]*aria-disabled[^>]*>", page)
    assert button
    assert "Headquarters has owned this machine since 2026-03-01 12:00 UTC" in button[0]
    assert "(ownership epoch 4)" in button[0]


def test_an_unreachable_agent_is_said_in_words(admin_client: Client) -> None:
    machine = make_machine(
        connection_state=ConnectionState.UNREACHABLE, connection_error="Connecting failed"
    )
    page = page_of(admin_client, machine)
    assert "Unreachable" in page
    assert "Connecting failed" in page


def test_a_damaged_point_says_what_is_damaged(admin_client: Client) -> None:
    point = make_recovery_point(state=PointState.DAMAGED)
    assert point.damage_text in page_of(admin_client, point.machine)


def test_what_an_agent_reports_is_never_markup(admin_client: Client) -> None:
    evil = "<script>alert(1)</script>"
    machine = make_machine(
        description={"hostname": evil, "os": evil, "disks": [{"number": evil}], "nics": [{}]}
    )
    assert evil not in page_of(admin_client, machine)


@pytest.mark.parametrize("description", [{}, {"disks": "none", "nics": 7, "agent": None}])
def test_an_odd_description_breaks_no_page(admin_client: Client, description: Any) -> None:
    assert page_of(admin_client, make_machine(description=description))


def test_an_unknown_machine_is_not_found(admin_client: Client) -> None:
    url = reverse("protected_machines:machine", args=[uuid4()])
    assert admin_client.get(url).status_code == 404


@pytest.mark.parametrize("name", ["machine", "snapshot-force", "export-start", "machine-schedule"])
def test_nothing_is_shown_without_a_session(client: Client, name: str) -> None:
    machine = make_machine(name="secret-machine")
    response = client.get(reverse(f"protected_machines:{name}", args=[machine.id]))
    assert response.status_code == 302
    assert "login" in response.headers["Location"]


@pytest.mark.parametrize("name", ["machine-pause", "machine-resume"])
def test_an_act_is_a_post(admin_client: Client, name: str) -> None:
    machine = make_machine()
    url = reverse(f"protected_machines:{name}", args=[machine.id])
    assert admin_client.get(url).status_code == 405
    assert admin_client.post(machine.get_absolute_url()).status_code == 405


def test_pause_and_resume(admin_client: Client) -> None:
    machine = make_machine()
    pause = reverse("protected_machines:machine-pause", args=[machine.id])
    resume = reverse("protected_machines:machine-resume", args=[machine.id])
    assert admin_client.post(pause).status_code == 303
    machine.refresh_from_db()
    assert machine.is_paused
    assert "Online, paused" in page_of(admin_client, machine)
    assert admin_client.post(resume, headers=FRAGMENT).headers["HX-Redirect"]
    machine.refresh_from_db()
    assert not machine.is_paused


def test_the_schedule_is_changed(admin_client: Client) -> None:
    machine = make_machine(snapshot_interval_seconds=77)
    url = reverse("protected_machines:machine-schedule", args=[machine.id])
    assert "Every 77 seconds" in admin_client.get(url).content.decode()
    assert admin_client.post(url, {"interval_seconds": "900"}).status_code == 303
    machine.refresh_from_db()
    assert machine.snapshot_interval_seconds == 900
    assert admin_client.post(url, {"interval_seconds": "1"}).status_code == 422


def test_the_number_of_queries_depends_on_no_number_of_rows(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    machine = make_machine()
    for _ in range(3):
        make_recovery_point(machine)
        make_machine()
    for _ in range(2):
        with django_assert_max_num_queries(15):
            page_of(admin_client, machine)
        with django_assert_max_num_queries(11):
            admin_client.get(reverse("protected_machines:machines"))
        for _ in range(20):
            make_recovery_point(machine)
            make_machine()


def test_the_navigation_groups_machines_and_says_their_state(admin_client: Client) -> None:
    make_machine(name="web-01")
    make_machine(name="db-01", kind=MachineKind.FAILED_OVER)
    make_machine(name="old-01", kind=MachineKind.REPLICATED, **OTHER_CORE)
    page = admin_client.get(reverse("protected_machines:machines")).content.decode()
    navigation = page[
        page.index('aria-label="Protected Machines"') : page.index(
            "</nav>", page.index('aria-label="Protected Machines"')
        )
    ]
    for group in ("Protected", "Failed over", "Replicated"):
        assert f"<h3>{group}</h3>" in navigation
    entry = navigation[navigation.index("db-01") :]
    assert "Online" in entry[: entry.index("</a>")]


def test_a_long_navigation_ends_in_the_list_but_holds_the_current_machine(
    admin_client: Client,
) -> None:
    machines = [make_machine(name=f"m-{number:03}") for number in range(50)]
    page = page_of(admin_client, machines[-1])
    assert "10 more…" not in page
    assert "9 more…" in page
    assert 'aria-current="page"><span class="name">m-049' in page


def menu_of(page: str) -> str:
    found = re.search(r'<div role="menu" aria-label="Actions of.*?</details>', page, re.DOTALL)
    assert found
    return found[0]


def test_the_menu_offers_what_can_be_done(admin_client: Client) -> None:
    machine = make_machine()
    menu = menu_of(page_of(admin_client, machine))
    for name in ("machine-schedule", "machine-pause", "archive-start"):
        assert reverse(f"protected_machines:{name}", args=[machine.id]) in menu
    assert "csrfmiddlewaretoken" in menu


@pytest.mark.parametrize("is_paused", [False, True])
def test_what_the_menu_greys_is_refused_with_the_same_reason(
    admin_client: Client, is_paused: bool
) -> None:
    machine = make_machine(kind=MachineKind.REPLICATED, is_paused=is_paused, **OTHER_CORE)
    menu = menu_of(page_of(admin_client, machine))
    reason = "Headquarters has owned this machine since"
    assert menu.count(f"<small>{reason}") == 3
    for name in ("machine-schedule", "machine-pause", "machine-resume"):
        response = admin_client.post(reverse(f"protected_machines:{name}", args=[machine.id]))
        assert response.status_code == 409
        assert reason in response.content.decode()
    assert Machine.objects.get().is_paused == is_paused
