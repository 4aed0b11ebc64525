"""What replicated machines say on the home page."""

import itertools
import shutil
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from console.identity import this_core
from console.jobs.models import Job
from console.readiness import Readiness, ReadinessState
from protected_machines.choices import ConnectionState, MachineKind, PointState
from protected_machines.models import Delegation, Machine, RecoveryPoint, VCenter
from recovery_store.store import Store
from replication.failover.draft import draft_failover
from replication.models import Pairing, ReplicatedMachine
from replication.pages.readiness import readiness
from tests.factories import DESCRIPTION, NOON, make_vcenter
from tests.replication.rows import (
    make_pairing,
    make_replica,
    make_replicated,
    make_stored_point,
)

pytestmark = pytest.mark.django_db

NOW = NOON + timedelta(minutes=5)


def make_incoming(**changes: Any) -> Pairing:
    return make_pairing(direction="incoming", peer_name="Headquarters", **changes)


@pytest.fixture(autouse=True)
def places(store: Store) -> None:
    """A store for real points, and somewhere to fail over to."""
    make_vcenter()


def make_held(
    pairing: Pairing, state: str = PointState.PROVEN, fingerprint: str = "", **changes: Any
) -> ReplicatedMachine:
    """A replicated machine with one point, taken at noon, whose agent trusts this or that core."""
    changes = {"agent_certificate_pem": this_core().certificate_pem, **changes}
    replicated = make_replicated(pairing, make_replica(pairing, name=f"{uuid4()}", **changes))
    trusted = [{"name": "DR site", "fingerprint": fingerprint or this_core().fingerprint}]
    make_stored_point(
        replicated.machine, {**DESCRIPTION, "trusted_cores": trusted}, state=state, taken_at=NOON
    )
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
    assert any("No complete recovery point" in reason for reason in only_entry().reasons)


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


def test_no_more_queries_for_more_machines(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    pairing = make_incoming()
    for _ in range(5):
        make_held(pairing)

    with django_assert_num_queries(7):
        assert len(list(readiness(NOW))) == 5


def test_a_point_that_is_gone_from_the_store_cannot_be_failed_over(store: Store) -> None:
    make_held(make_incoming())
    shutil.rmtree(store.root / "machines")

    assert only_entry().state is ReadinessState.NOT_READY


def test_nothing_can_be_failed_over_without_a_vcenter() -> None:
    make_held(make_incoming())
    VCenter.objects.all().delete()

    assert only_entry().state is ReadinessState.NOT_READY


def test_a_point_from_before_the_target_was_trusted_is_ready_by_delegation() -> None:
    replicated = make_held(make_incoming(), fingerprint="cd" * 32)
    assert only_entry().state is ReadinessState.NOT_READY

    Delegation.objects.create(
        machine=replicated.machine, issuer_fingerprint="cd" * 32, number=1, certificate_pem="…"
    )

    assert only_entry().state is ReadinessState.READY


def hold_by_a_job(machine: Machine) -> None:
    Job.objects.create(
        kind="import_archive",
        title="Import Archive",
        subject_id=machine.pk,
        subject_name=machine.name,
        is_exclusive=True,
        plan_version=1,
        params={},
        queue="transfer",
    )


@pytest.mark.parametrize("kind", ["replicated", "pending_failover", "failed_back"])
@pytest.mark.parametrize("point", ["none", "gone", *PointState.values])
def test_home_page_and_dialog_never_disagree(kind: str, point: str, store: Store) -> None:
    """Whatever the facts: what the home page says can be failed over, the dialog offers ticked."""
    pairings = [
        make_incoming(),
        make_incoming(peer_core_id=uuid4(), connection_state=ConnectionState.UNREACHABLE),
    ]
    for pairing, is_trusted, has_certificate, is_held in itertools.product(
        pairings, *[(True, False)] * 3
    ):
        replicated = make_held(
            pairing,
            point if point in PointState.values else PointState.PROVEN,
            "" if is_trusted else "cd" * 32,
            kind=kind,
            agent_certificate_pem=this_core().certificate_pem if has_certificate else "",
        )
        if is_held:
            hold_by_a_job(replicated.machine)
    if point == "none":
        RecoveryPoint.objects.all().delete()
    elif point == "gone":
        shutil.rmtree(store.root / "machines")

    offered = [machine for pairing in pairings for machine in draft_failover(pairing, NOW).machines]

    ticked = {machine.name for machine in offered if machine.is_chosen}
    entries = list(readiness(NOW))
    could_be = {one.machine_name for one in entries if one.headline.startswith("Can be")}
    assert len(entries) == 16
    assert could_be == ticked
    assert len(ticked) == (2 if kind == "replicated" and point in ("unproven", "proven") else 0)


def test_home_page_counts_them(signed_in: Client) -> None:
    replicated = make_held(make_incoming(connection_state=ConnectionState.UNREACHABLE))

    page = signed_in.get("/").content.decode()

    assert replicated.machine.name in page
    assert "Headquarters is unreachable" in page
