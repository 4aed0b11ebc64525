"""Objectives and grades, by examples and by properties."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.status.grades import (
    DEFAULT_RECOVERY_SECONDS,
    GRADES,
    Grade,
    SetObjectives,
    grade_of,
    loss_seconds,
    objectives_of,
)
from tests.factories import NOON


@pytest.mark.parametrize(
    ("seconds", "grade"),
    [
        (None, Grade.UNKNOWN),
        (0, Grade.WITHIN),
        (600, Grade.WITHIN),
        (601, Grade.DOUBLE),
        (1200, Grade.DOUBLE),
        (1201, Grade.QUADRUPLE),
        (2400, Grade.QUADRUPLE),
        (2401, Grade.BEYOND),
    ],
)
def test_a_limit_belongs_to_the_better_grade(seconds: float | None, grade: Grade) -> None:
    assert grade_of(seconds, 600) is grade


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(1, 1e8))
def test_more_loss_never_gets_a_better_grade(one: float, other: float, objective: float) -> None:
    less, more = sorted((one, other))
    assert GRADES.index(grade_of(less, objective)) <= GRADES.index(grade_of(more, objective))


@given(st.floats(0, 1e9), st.floats(1, 1e8))
def test_only_what_is_within_its_objective_is_green(seconds: float, objective: float) -> None:
    assert (grade_of(seconds, objective).tone == "ok") == (seconds <= objective)


def test_the_machine_comes_before_its_core_and_that_before_the_default() -> None:
    default = objectives_of(3600, None, None)
    assert default.point_seconds == 3 * 3600 + 60
    assert (default.is_point_default, default.recovery_seconds) == (True, DEFAULT_RECOVERY_SECONDS)

    of_core = SetObjectives(point_seconds=900, recovery_seconds=1800)
    mixed = objectives_of(3600, of_core, SetObjectives(point_seconds=300))
    assert (mixed.point_seconds, mixed.recovery_seconds) == (300, 1800)
    assert not mixed.is_point_default


def test_a_point_dated_ahead_says_nothing_of_the_loss() -> None:
    assert loss_seconds(None, NOON) is None
    assert loss_seconds(NOON + timedelta(hours=1), NOON) is None
    # A clock that is a little ahead does no harm.
    assert loss_seconds(NOON + timedelta(seconds=20), NOON) == 0
    assert loss_seconds(NOON - timedelta(minutes=7), NOON) == 420
