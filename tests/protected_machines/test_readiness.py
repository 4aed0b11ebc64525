"""What machines say on the Home page."""

from datetime import timedelta
from typing import Any

import pytest

from console.readiness import Readiness, ReadinessState
from protected_machines.choices import ConnectionState, MachineKind, PointState
from protected_machines.readiness import readiness
from tests.factories import NOON, make_machine, make_recovery_point

pytestmark = pytest.mark.django_db


def judged(**changes: Any) -> Readiness:
    point_state = changes.pop("point_state", PointState.PROVEN)
    machine = make_machine(**changes)
    if point_state is not None:
        make_recovery_point(machine, state=point_state)
    (found,) = readiness(NOON + timedelta(minutes=5))
    return found


def test_a_machine_with_a_fresh_proven_point_is_ready() -> None:
    found = judged()
    assert (found.state, found.reasons) == (ReadinessState.READY, ())
    assert found.newest_point_at == NOON


def test_a_failed_over_machine_says_so() -> None:
    assert judged(kind=MachineKind.FAILED_OVER).state == ReadinessState.FAILED_OVER


@pytest.mark.parametrize("point_state", [None, PointState.DAMAGED])
def test_without_a_usable_point_nothing_can_be_recovered(point_state: str | None) -> None:
    found = judged(point_state=point_state)
    assert found.state == ReadinessState.NOT_READY
    assert found.reasons


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_paused": True}, "Protection is paused."),
        ({"connection_state": ConnectionState.UNREACHABLE}, "The agent is unreachable."),
        (
            {"connection_state": ConnectionState.AUTHENTICATION_ERROR},
            "The agent and this core do not trust each other.",
        ),
        (
            {"snapshot_interval_seconds": 60},
            "The newest recovery point is older than the schedule allows.",
        ),
        ({"point_state": PointState.UNPROVEN}, "No recovery point has been proven yet."),
    ],
)
def test_doubts_are_named(changes: dict[str, Any], reason: str) -> None:
    found = judged(**changes)
    assert found.state == ReadinessState.AT_RISK
    assert found.reasons == (reason,)


def test_a_machine_of_another_core_is_not_judged_here() -> None:
    make_machine(kind=MachineKind.REPLICATED)
    assert list(readiness(NOON)) == []


def test_all_machines_are_judged_with_one_query(django_assert_num_queries: Any) -> None:
    for _ in range(5):
        make_recovery_point(make_machine())
    with django_assert_num_queries(1):
        assert len(list(readiness(NOON))) == 5
