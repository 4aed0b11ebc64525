"""When a snapshot is due, and what can be its parent."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protected_machines.choices import PointKind
from protected_machines.points.policy import (
    ParentCandidate,
    ScheduleFacts,
    choose_kind,
    due_machines,
    is_snapshot_due,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def facts(**changes: Any) -> ScheduleFacts:
    values: dict[str, Any] = {
        "machine_id": uuid4(),
        "is_paused": False,
        "has_open_job": False,
        "interval_seconds": 3600,
        "last_success_at": NOW - timedelta(hours=1),
        "tried_at": None,
    }
    return ScheduleFacts(**{**values, **changes})


def test_a_snapshot_is_due_when_the_interval_is_over() -> None:
    assert is_snapshot_due(facts(), NOW)
    assert not is_snapshot_due(facts(last_success_at=NOW - timedelta(minutes=59)), NOW)


def test_a_machine_without_a_success_is_due_at_once() -> None:
    assert is_snapshot_due(facts(last_success_at=None), NOW)


@pytest.mark.parametrize("change", [{"is_paused": True}, {"has_open_job": True}])
def test_a_paused_or_busy_machine_is_never_due(change: dict[str, bool]) -> None:
    assert not is_snapshot_due(facts(last_success_at=None, **change), NOW)


def test_a_failed_try_is_not_repeated_at_once() -> None:
    assert not is_snapshot_due(facts(tried_at=NOW - timedelta(seconds=59)), NOW)
    assert is_snapshot_due(facts(tried_at=NOW - timedelta(seconds=60)), NOW)


def test_an_interval_shorter_than_the_pause_after_a_failure_is_kept() -> None:
    quick = facts(interval_seconds=10, tried_at=NOW - timedelta(seconds=11))
    assert is_snapshot_due(quick, NOW)


def test_machines_without_a_success_come_first_then_the_oldest() -> None:
    old = facts(last_success_at=NOW - timedelta(days=2))
    older = facts(last_success_at=NOW - timedelta(days=3))
    new = facts(last_success_at=None)
    late = facts(last_success_at=NOW - timedelta(minutes=1))
    expected: list[UUID] = [new.machine_id, older.machine_id, old.machine_id]
    assert due_machines([old, late, older, new], NOW) == expected


def test_the_newest_sound_point_is_the_parent() -> None:
    candidates = [
        ParentCandidate("a", False),
        ParentCandidate("b", False),
        ParentCandidate("c", True),
    ]
    choice = choose_kind(PointKind.INCREMENTAL, candidates)
    assert choice.kind == PointKind.INCREMENTAL
    assert choice.parent_ids == ("b", "a")
    assert choice.reason == ""


def test_a_base_image_says_why_it_is_one_when_an_incremental_was_asked_for() -> None:
    first = choose_kind(PointKind.INCREMENTAL, [])
    assert (first.kind, first.reason) == (
        PointKind.BASE_IMAGE,
        "it is the machine's first recovery point",
    )
    damaged = choose_kind(PointKind.INCREMENTAL, [ParentCandidate("a", True)])
    assert (damaged.kind, damaged.reason) == (
        PointKind.BASE_IMAGE,
        "every earlier recovery point is damaged",
    )


@given(st.lists(st.booleans()), st.sampled_from(PointKind))
def test_a_damaged_point_is_never_a_parent(damages: list[bool], asked: PointKind) -> None:
    candidates = [ParentCandidate(str(place), hurt) for place, hurt in enumerate(damages)]
    choice = choose_kind(asked, candidates)
    damaged = {candidate.point_id for candidate in candidates if candidate.is_damaged}
    assert not damaged & set(choice.parent_ids)
    assert bool(choice.parent_ids) == (choice.kind == PointKind.INCREMENTAL)
