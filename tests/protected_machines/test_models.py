"""The rules that the database itself keeps, and the stored words."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from protected_machines.choices import ConnectionState, MachineKind, PointKind, PointState
from protected_machines.errors import PasswordUnreadable
from protected_machines.models import Machine, RecoveryPoint
from tests.factories import NOON, make_machine, make_recovery_point, make_vcenter

pytestmark = pytest.mark.django_db


def test_stored_words_are_never_renamed() -> None:
    assert MachineKind.values == [
        "protected",
        "replicated",
        "pending_failover",
        "failed_over",
        "pending_failback",
        "failed_back",
        "recovery_points_only",
    ]
    assert ConnectionState.values == ["online", "unreachable", "authentication_error", "unknown"]
    assert PointKind.values == ["base_image", "incremental"]
    assert PointState.values == ["unproven", "proven", "damaged"]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "server"},
        {"connection_state": "fine"},
        {"port": 0},
        {"port": 65536},
        {"snapshot_interval_seconds": 0},
        {"host": ""},
    ],
)
def test_the_database_refuses_a_machine_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_machine(**changes)


def test_a_name_is_used_once_among_the_machines_first_protected_here() -> None:
    make_machine(name="web-01")
    make_machine(name="web-01", source_core_id=uuid.uuid4(), kind=MachineKind.REPLICATED)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_machine(name="web-01")


def test_an_agent_is_protected_once() -> None:
    make_machine(host="10.0.0.5")
    make_machine(host="10.0.0.5", kind=MachineKind.REPLICATED)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_machine(host="10.0.0.5")


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": PointKind.INCREMENTAL},
        {"kind": PointKind.BASE_IMAGE, "parent_id": uuid.uuid4()},
        {"state": PointState.PROVEN, "proven_at": None},
        {"state": PointState.DAMAGED, "damage_text": ""},
        {"state": "fine"},
    ],
)
def test_the_database_refuses_a_point_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_recovery_point(**changes)


def test_the_newest_point_comes_with_the_machines_in_one_query(
    django_assert_num_queries: Any,
) -> None:
    machine = make_machine()
    make_recovery_point(machine)
    newest = make_recovery_point(machine, state=PointState.PROVEN)
    without = make_machine()
    with django_assert_num_queries(1):
        found = {row.pk: row for row in Machine.objects.with_newest_point()}
    assert found[machine.pk].newest_point_id == newest.pk
    assert found[machine.pk].newest_point_state == PointState.PROVEN
    assert found[without.pk].newest_point_at is None


def test_the_next_snapshot_follows_the_newest_point_by_the_interval() -> None:
    machine = make_machine(snapshot_interval_seconds=60)
    assert machine.next_snapshot_at(NOON) == NOON + timedelta(minutes=1)
    machine.set_paused(True)
    assert machine.next_snapshot_at(NOON) is None


def test_pausing_tells_whether_it_changed_anything() -> None:
    machine = make_machine()
    assert machine.set_paused(True)
    assert not machine.set_paused(True)
    assert Machine.objects.get(pk=machine.pk).is_paused


def test_a_failed_call_keeps_when_the_agent_was_last_seen() -> None:
    machine = make_machine(last_seen_at=NOON)
    machine.record_connection(ConnectionState.UNREACHABLE, "no answer")
    machine.refresh_from_db()
    assert machine.last_seen_at == NOON
    assert machine.connection_error == "no answer"
    machine.record_connection(ConnectionState.ONLINE)
    machine.refresh_from_db()
    assert machine.last_seen_at > NOON
    assert machine.connection_error == ""


def test_damage_is_marked_and_cleared() -> None:
    point = make_recovery_point()
    point.mark_proven(NOON)
    point.mark_damaged("disk0.vmdk is missing")
    stored = RecoveryPoint.objects.get(pk=point.pk)
    assert (stored.state, stored.proven_at) == (PointState.DAMAGED, NOON)
    stored.mark_proven()
    assert RecoveryPoint.objects.get(pk=point.pk).damage_text == ""


def test_a_vcenter_password_is_not_in_the_database_in_plain_text() -> None:
    vcenter = make_vcenter(password="correct horse")
    with connection.cursor() as cursor:
        cursor.execute("SELECT password_encrypted FROM protected_machines_vcenter")
        (stored,) = cursor.fetchone()
    assert "correct horse" not in stored
    assert vcenter.password == "correct horse"


def test_a_password_stored_under_another_secret_key_is_said_to_be_unreadable(
    settings: Any,
) -> None:
    vcenter = make_vcenter(password="correct horse")
    settings.SECRET_KEY = "another key"
    with pytest.raises(PasswordUnreadable, match="Enter the password again"):
        _ = vcenter.password
