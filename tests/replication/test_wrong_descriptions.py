"""One machine that is described wrongly keeps no page, and no other machine, from being used."""

import json
from itertools import groupby

import pytest
from django.test import Client
from django.urls import reverse

from console.identity import this_core
from protected_machines.models import Machine
from protected_machines.models.descriptions import read_description
from replication.models import Pairing
from tests.agent.wrong_descriptions import example, wrong_descriptions
from tests.factories import make_machine, make_recovery_point
from tests.replication.rows import make_pairing, make_replica, make_replicated

pytestmark = pytest.mark.django_db

WRONG = list(wrong_descriptions())


def _can_be_stored(value: object) -> bool:
    """No database takes a NUL or half a pair: those never get into a row."""
    text = json.dumps(value)
    return value is not None and "\\u0000" not in text and "\\ud800" not in text


# As many as a dialog shows: one for each field, in turn of another kind.
_BY_FIELD = groupby(
    sorted(
        (wrong for wrong in WRONG if wrong.what != "too many" and _can_be_stored(wrong.value)),
        key=lambda wrong: wrong.field,
    ),
    key=lambda wrong: wrong.field,
)
SAMPLE = [
    (found := list(group))[number % len(found)] for number, (_, group) in enumerate(_BY_FIELD)
]


@pytest.fixture
def described_wrongly() -> Pairing:
    """Machines of a source core, each described wrongly in its own way, and one right."""
    pairing = make_pairing(direction="incoming", peer_name="Headquarters")
    descriptions = {**{str(wrong): wrong.value for wrong in SAMPLE}, "right": example()}
    for name, description in descriptions.items():
        machine = make_replica(
            pairing,
            name=name,
            description=description,
            agent_certificate_pem=this_core().certificate_pem,
        )
        point = make_recovery_point(machine)
        make_replicated(pairing, machine, last_point_id=point.pk, last_point_at=point.taken_at)
    return pairing


def test_every_page_shows_all_machines(signed_in: Client, described_wrongly: Pairing) -> None:
    names = set(Machine.objects.values_list("name", flat=True))
    assert "right" in names
    dialog = reverse("replication:pairing-fail-over", args=[described_wrongly.pk])
    for url in ("/", dialog):
        answer = signed_in.get(url, headers={"HX-Request": "true"})
        assert answer.status_code == 200, url
        shown = answer.content.decode()
        assert [name for name in sorted(names) if name not in shown] == [], url


def test_each_machine_has_its_page(signed_in: Client) -> None:
    for wrong in SAMPLE[::4]:
        machine = make_machine(name=str(wrong), description=wrong.value)
        assert signed_in.get(machine.get_absolute_url()).status_code == 200, wrong


def test_only_what_is_wrong_is_left_out() -> None:
    for wrong in WRONG:
        if wrong.what == "too many":
            continue
        outermost = wrong.field.split(".")[0].split("[")[0]
        if outermost == "the whole":
            continue
        found = read_description(wrong.value).to_json()
        for name, value in example().items():
            if name != outermost:
                assert found[name] == value, (wrong, name)
