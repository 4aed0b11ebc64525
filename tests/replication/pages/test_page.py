"""The Replication page: what it shows, what its menus offer, and what it costs."""

import re
import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from console.identity import this_core
from protected_machines.choices import MachineKind
from replication.choices import Direction, SeedDriveState
from replication.models import Pairing, ReplicatedMachine, SeedDrive
from tests.factories import NOON, make_machine
from tests.reading import as_read
from tests.replication.rows import make_pairing, make_replica, make_replicated

URL = "/replication/"
# The id of no core.
NOBODY = uuid.UUID("6d6f0a4e-2b53-4a5e-9d0b-6a6c1c1f3f77")
HTMX = {"HX-Request": "true"}


def text_of(client: Client, query: str = "") -> str:
    response = client.get(URL + query)
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def test_it_is_not_for_those_without_a_session(client: Client, db: None) -> None:
    assert client.get(URL).status_code == 302


def test_only_reading_is_possible_at_its_address(signed_in: Client) -> None:
    assert signed_in.post(URL).status_code == 405


def test_an_empty_core_says_how_to_begin(signed_in: Client) -> None:
    shown = text_of(signed_in)
    assert "No target core yet" in shown
    assert "No source core yet" in shown


def test_both_regions_have_their_names(signed_in: Client) -> None:
    page = signed_in.get(URL).content.decode()
    for direction, title in (("outgoing", "Outgoing"), ("incoming", "Incoming")):
        assert f'aria-labelledby="{direction}-title"' in page
        assert f'<h2 id="{direction}-title">{title} Replication</h2>' in page


def test_the_fragment_is_only_the_regions_and_is_204_when_nothing_changed(
    signed_in: Client,
) -> None:
    make_replicated(make_pairing(direction="incoming"))
    page = signed_in.get(URL, headers=HTMX).content.decode()
    assert "<html" not in page
    assert 'id="replication"' in page
    seen = re.search(r"seen=([0-9a-f]{16})", page)
    assert seen
    again = signed_in.get(f"{URL}?seen={seen[1]}", headers=HTMX)
    assert again.status_code == 204


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Online"),
        ({"is_paused": True}, "Paused"),
        ({"is_paused_by_peer": True}, "Paused"),
        ({"connection_state": "unknown"}, "Not seen yet"),
        (
            {"connection_state": "authentication_error", "connection_error": "Another secret."},
            "Authentication error",
        ),
        ({"connection_state": "unreachable"}, "Unreachable"),
    ],
)
def test_a_core_says_how_it_stands(
    signed_in: Client, changes: dict[str, object], expected: str
) -> None:
    make_pairing(direction="incoming", peer_name="Headquarters", **changes)
    assert f"Headquarters 127.0.0.1:1 {expected}" in text_of(signed_in)


def test_a_silent_core_says_for_how_long(signed_in: Client) -> None:
    since = timezone.now() - timedelta(minutes=7)
    make_pairing(
        direction="incoming",
        connection_state="unreachable",
        unreachable_since=since,
        last_seen_at=since,
    )
    assert "Unreachable for 7 minutes last seen 7 minutes ago" in text_of(signed_in)


def test_a_machine_shows_its_newest_point_and_how_far_it_was_behind(signed_in: Client) -> None:
    pairing = make_pairing(direction="incoming", connection_state="unreachable")
    now = timezone.now()
    make_replicated(
        pairing,
        make_replica(pairing, name="db-01"),
        last_point_at=now - timedelta(minutes=5),
        newest_point_at=now - timedelta(minutes=3),
        behind_points=2,
        behind_bytes=2 * 1024**2,
    )
    shown = text_of(signed_in)
    assert "since 2026-03-01 12:00 , epoch 1 Behind newest point 5 minutes" in shown
    assert "2 minutes, 2 points 2 MiB" in shown


def test_a_failed_over_machine_and_the_refused_source_are_said(signed_in: Client) -> None:
    pairing = make_pairing(direction="incoming", peer_name="Headquarters")
    core = this_core()
    machine = make_replica(
        pairing,
        name="db-01",
        kind=MachineKind.FAILED_OVER,
        owner_core_id=core.id,
        owner_core_name=core.name,
        ownership_epoch=2,
    )
    make_replicated(pairing, machine)
    shown = text_of(signed_in)
    assert "1 owned here, requests from Headquarters are rejected" in shown
    assert f"db-01 owned by {core.name} since 2026-03-01 12:00 , epoch 2" in shown
    assert "Failed over Runs here. Requests from Headquarters are rejected." in shown


def test_a_source_whose_machine_runs_elsewhere_says_so(signed_in: Client) -> None:
    pairing = make_pairing(peer_name="DR site")
    machine = make_machine(
        name="db-01",
        owner_core_id=pairing.peer_core_id,
        owner_core_name="DR site",
        ownership_epoch=2,
    )
    make_replicated(pairing, machine)
    shown = text_of(signed_in)
    assert "Machines of this core run at the other site" in shown
    assert "owned by DR site since 2026-03-01 12:00 , epoch 2 Runs at the other site" in shown
    assert "Owned by DR site. This core does not act on it." in shown


def test_a_disputed_machine_is_red_and_offers_only_to_settle_its_owner(signed_in: Client) -> None:
    pairing = make_pairing(direction="incoming", peer_name="Headquarters")
    claim = {"claim_core_id": NOBODY, "claim_core_name": "Elsewhere", "claim_epoch": 3}
    machine = make_replica(pairing, name="db-01", claim_speaker_name="Headquarters", **claim)
    replicated = make_replicated(pairing, machine, last_point_at=NOON)
    shown = text_of(signed_in)
    assert "1 with problems" in shown
    assert "Owner disputed Headquarters says that Elsewhere owns db-01 with" in shown
    menu = menu_of(signed_in, f"replicated-{replicated.pk}")
    assert [title for title, is_offered in menu.items() if is_offered] == [
        "Details",
        "Settle Owner",
        "Pause",
    ]
    assert signed_in.get(f"/replication/machines/{replicated.pk}/fail-over/").status_code == 409


def test_an_owned_replica_is_red(signed_in: Client) -> None:
    pairing = make_pairing(direction="incoming", peer_name="Headquarters")
    replicated = make_replicated(pairing, make_replica(pairing, owner_core_id=this_core().id))
    assert "Owner contradictory This core owns machine-1" in text_of(signed_in)
    assert menu_of(signed_in, f"replicated-{replicated.pk}")["Settle Owner"]


def menu_of(client: Client, element_id: str) -> dict[str, bool]:
    """Return the items of a row's menu, and whether each can be used."""
    page = client.get(URL).content.decode()
    row = page[page.index(f'id="{element_id}"') :]
    row = row[: row.index("</details>")]
    items = re.findall(
        r'role="menuitem"( aria-disabled="true")?[^>]*>(?:<svg.*?</svg>)?([A-Z][A-Za-z ]+)', row
    )
    return {title: not disabled for disabled, title in items}


def test_the_menus_offer_what_makes_sense(signed_in: Client) -> None:
    outgoing = make_pairing()
    incoming = make_pairing(direction="incoming")
    sent = make_replicated(outgoing, last_point_at=timezone.now())
    arrived = make_replicated(incoming, last_point_at=timezone.now())
    common = {"Details": True, "Settings": True, "Pause": True, "Resume": False, "Force": True}
    to_go = {"Add machines": True, "Copy to Seed Drive": True}
    to_run = {"Fail Over": True, "Failback": False}
    assert menu_of(signed_in, f"pairing-{outgoing.pk}") == {**common, **to_go}
    come = {**common, **to_run, "Consume Seed Drive": True}
    assert menu_of(signed_in, f"pairing-{incoming.pk}") == come
    machine = {"Details": True, "Pause": True, "Resume": False, "Force": True}
    sent_menu = {**machine, "Copy to Seed Drive": True}
    assert menu_of(signed_in, f"replicated-{sent.pk}") == sent_menu
    assert menu_of(signed_in, f"replicated-{arrived.pk}") == {**machine, **to_run}


def test_a_machine_on_a_seed_drive_says_that_nothing_is_sent(signed_in: Client) -> None:
    replicated = make_replicated(make_pairing(peer_name="DR site"), make_machine(name="db-01"))
    assert "Seed Drives" not in text_of(signed_in)
    drive = SeedDrive.objects.create(replicated=replicated, folder="/mnt/usb/seed")
    shown = text_of(signed_in)
    assert "On a seed drive Nothing is sent until DR site has consumed the seed drive" in shown
    assert "Seed Drives (1)" in shown
    assert "Being copied" in shown
    assert menu_of(signed_in, f"replicated-{replicated.pk}")["Force"] is False
    SeedDrive.objects.update(
        newest_point_id=uuid.uuid4(), oldest_at=NOON, newest_at=NOON, points=3, stored_bytes=2**20
    )
    page = as_read(signed_in.get(URL))
    assert "3, 1 MiB" in page
    assert reverse("replication:seed-drive-abandon", args=[drive.pk]) in page
    drive.end(SeedDriveState.CONSUMED, NOON)
    assert "seed drive" not in text_of(signed_in).lower().replace("copy to seed drive", "")


def test_a_greyed_item_says_why(signed_in: Client) -> None:
    make_pairing(direction="incoming", peer_name="Headquarters")
    assert "Headquarters does not replicate any machines to this core." in text_of(signed_in)


def fill(pairings: int, machines: int, direction: str = Direction.INCOMING) -> list[Pairing]:
    made = [make_pairing(direction=direction, peer_name=f"core-{n}") for n in range(pairings)]
    for pairing in made:
        for number in range(machines):
            machine = make_replica(pairing, name=f"{pairing.peer_name}-m{number:03}")
            make_replicated(pairing, machine, last_point_at=timezone.now())
    return made


def test_the_number_of_queries_depends_on_nothing(
    signed_in: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    (pairing,) = fill(1, 1)
    signed_in.get(f"{URL}?core={pairing.pk}", headers=HTMX)
    with django_assert_num_queries(7):
        signed_in.get(f"{URL}?core={pairing.pk}", headers=HTMX)
    ReplicatedMachine.objects.all().delete()
    Pairing.objects.all().delete()
    pairing, *_ = fill(4, 30)
    with django_assert_num_queries(7):
        signed_in.get(f"{URL}?core={pairing.pk}&page=2", headers=HTMX)


def test_a_core_with_many_machines_shows_them_only_when_asked(signed_in: Client) -> None:
    (pairing,) = fill(1, 30)
    shown = text_of(signed_in)
    assert "Show all 30 machines" in shown
    assert "core-0-m003" not in shown.split("Incoming Replication")[1]
    assert "core-0-m003" in text_of(signed_in, f"?core={pairing.pk}").split("Incoming")[1]


def test_many_machines_are_leafed_through(signed_in: Client) -> None:
    (pairing,) = fill(1, 60)
    shown = text_of(signed_in, f"?core={pairing.pk}&page=2")
    assert "Page 2 of 3, 60 machines" in shown
    assert "core-0-m025" in shown
    assert "core-0-m049" in shown
    assert "core-0-m024" not in shown.replace("Replicated", "").split("Incoming Replication")[1]


@pytest.mark.parametrize("query", ["?core=nonsense&page=x", f"?core={NOBODY}&page=99"])
def test_a_nonsense_query_shows_the_page(signed_in: Client, query: str) -> None:
    fill(1, 2)
    assert "core-0-m001" in text_of(signed_in, query)


def test_details_of_a_core_and_of_a_machine(signed_in: Client) -> None:
    pairing = make_pairing(direction="incoming", peer_name="Headquarters")
    replicated = make_replicated(pairing)
    page = signed_in.get(reverse("replication:pairing", args=[pairing.pk])).content.decode()
    assert "Headquarters" in page
    assert str(pairing.peer_core_id) in page
    page = signed_in.get(reverse("replication:machine", args=[replicated.pk])).content.decode()
    assert f"Replication of {replicated.machine.name}" in page


def test_what_is_not_there_is_404(signed_in: Client) -> None:
    for name in ("pairing", "machine", "failover", "pairing-settings"):
        url = reverse(f"replication:{name}", args=[uuid.uuid4()])
        assert signed_in.get(url).status_code == 404
