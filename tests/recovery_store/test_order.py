"""The order of a machine's points does not depend on any clock."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery_store.order import Link, in_order

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STEPS = [timedelta(0)] + [
    sign * step for step in (timedelta(minutes=10), timedelta(days=365)) for sign in (1, -1)
]
stepped = pytest.mark.parametrize("step", STEPS)


def link(point_id: str, parent_id: str | None, at: datetime = NOON, epoch: int = 1) -> Link[str]:
    return Link(point_id, parent_id, epoch, at)


@stepped
@pytest.mark.parametrize("wrong", range(4))
def test_no_clock_moves_a_point_within_its_chain(step: timedelta, wrong: int) -> None:
    times = [NOON + timedelta(minutes=number) for number in range(4)]
    times[wrong] += step
    chain = [link("a", None), link("b", "a"), link("c", "b"), link("d", "c")]
    points = [
        link(point.point_id, point.parent_id, at) for point, at in zip(chain, times, strict=True)
    ]
    assert in_order(reversed(points)) == ["a", "b", "c", "d"]


@stepped
def test_a_later_owner_is_later_whatever_its_clock_says(step: timedelta) -> None:
    points = [
        link("fork", None),
        link("stray", "fork", NOON + timedelta(minutes=1)),
        link("taken-over", "fork", NOON + step, epoch=2),
    ]
    assert in_order(points) == ["fork", "stray", "taken-over"]


def test_what_builds_on_a_point_shows_that_its_time_is_too_late() -> None:
    points = [
        link("fast", None, NOON + timedelta(days=365)),
        link("child", "fast", NOON),
        link("new-base", None, NOON + timedelta(hours=1)),
    ]
    assert in_order(points) == ["fast", "child", "new-base"]


@stepped
def test_a_known_order_stays_and_only_the_chain_overrules_it(step: timedelta) -> None:
    points = [link("b", None, NOON + step), link("a", None, NOON), link("c", "a", NOON)]
    assert in_order(points, ["a", "c", "b"]) == ["a", "c", "b"]
    without_it = in_order(points, ["c", "a"])
    assert without_it.index("a") < without_it.index("c")


def test_points_that_name_each_other_hang_nothing() -> None:
    assert in_order([link("a", "b"), link("b", "a"), link("c", None)]) == ["c", "a", "b"]


@given(st.data())
def test_parents_come_first_with_any_times_epochs_and_order(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    points = []
    for number in range(count):
        parent = data.draw(st.none() | st.integers(0, number - 1)) if number else None
        at = NOON + timedelta(minutes=data.draw(st.integers(-1000, 1000)))
        parent_id = None if parent is None else f"{parent:02}"
        points.append(Link(f"{number:02}", parent_id, data.draw(st.integers(1, 3)), at))
    shuffled = data.draw(st.permutations(points))
    ordered = in_order(shuffled, data.draw(st.permutations([p.point_id for p in points])))
    assert sorted(ordered) == sorted(point.point_id for point in points)
    for point in points:
        if point.parent_id is not None:
            assert ordered.index(point.parent_id) < ordered.index(point.point_id)
