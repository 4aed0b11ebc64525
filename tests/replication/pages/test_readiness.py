"""What replicated machines say on the home page."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from console.readiness import Readiness, ReadinessState
from protected_machines.choices import ConnectionState, MachineKind, PointState
from replication.models import Pairing, ReplicatedMachine
from replication.pages.readiness import readiness
from tests.factories import NOON, make_recovery_point
from tests.replication.rows import make_pairing, make_replicated

pytestmark = pytest.mark.django_db

NOW = NOON + timedelta(minutes=5)


def make_incoming(**changes: Any) -> Pairing:
    return make_pairing(direction="incoming", peer_name="Headquarters", **changes)


def make_held(pairing: Pairing, state: str = PointState.PROVEN) -> ReplicatedMachine:
    """A replicated machine with one point, taken at noon."""
    replicated = make_replicated(pairing)
    make_recovery_point(replicated.machine, state=state)
    return replicated


def only_entry() -> Readiness:
    (entry,) = readiness(NOW)
    return entry


def test_machine_with_a_recent_proven_point_is_ready() -> None:
    replicated = make_held(make_incoming())

    entry = only_entry()

    assert entry.state is ReadinessState.READY
    assert entry.machine_id == replicated.machine_id
    assert entry.core_name == "Headquarters"
    assert (entry.newest_point_at, entry.proven_at) == (NOON, NOON)


def test_machine_without_a_point_cannot_be_failed_over() -> None:
    make_replicated(make_incoming())

    assert only_entry().state is ReadinessState.NOT_READY
    assert only_entry().reasons == ("No recovery point has arrived yet.",)


def test_machine_whose_only_point_is_damaged_cannot_be_failed_over() -> None:
    make_held(make_incoming(), PointState.DAMAGED)

    assert only_entry().state is ReadinessState.NOT_READY


def test_lost_source_core_is_a_risk_and_says_so() -> None:
    make_held(make_incoming(connection_state=ConnectionState.UNREACHABLE))

    assert only_entry().state is ReadinessState.AT_RISK
    assert only_entry().reasons == ("Headquarters is unreachable, so no newer points arrive.",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_paused": True}, "Replication is paused."),
        ({"is_paused_by_peer": True}, "Replication is paused."),
        ({"error_text": "digest differs"}, "Replication failed: digest differs"),
    ],
)
def test_what_holds_replication_up_is_a_risk(changes: dict[str, Any], reason: str) -> None:
    replicated = make_held(make_incoming())
    ReplicatedMachine.objects.filter(pk=replicated.pk).update(**changes)

    assert only_entry().state is ReadinessState.AT_RISK
    assert only_entry().reasons == (reason,)


def test_late_point_is_a_risk() -> None:
    make_held(make_incoming())

    (entry,) = readiness(NOON + timedelta(hours=5))

    assert entry.reasons == ("The newest recovery point was taken 5 hours ago, which is late.",)


def test_failed_over_and_outgoing_machines_are_not_counted_here() -> None:
    replicated = make_held(make_incoming())
    replicated.machine.kind = MachineKind.FAILED_OVER
    replicated.machine.save(update_fields=["kind"])
    make_replicated(make_pairing())

    assert list(readiness(NOW)) == []


def test_one_query_however_many_machines(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    pairing = make_incoming()
    for _ in range(5):
        make_held(pairing)

    with django_assert_num_queries(1):
        assert len(list(readiness(NOW))) == 5


def test_home_page_counts_them(signed_in: Client) -> None:
    replicated = make_held(make_incoming(connection_state=ConnectionState.UNREACHABLE))

    page = signed_in.get("/").content.decode()

    assert replicated.machine.name in page
    assert "Headquarters is unreachable" in page
