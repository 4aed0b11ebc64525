"""The history of DR status: the worst of each day, read back and drawn."""

import itertools
from datetime import date, timedelta

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from console.readiness import ReadinessState
from protected_machines.choices import ConnectionState, PointState
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.store import Store
from replication.models import StatusDay
from replication.status.chart import HEIGHT, WIDTH, draw
from replication.status.history import DAYS_KEPT, Day, forget_old_days, read_history, record_day
from replication.tasks import record_status
from tests.clocks import Clock
from tests.factories import NOON, make_machine, make_recovery_point
from tests.reading import as_read

NOW = NOON + timedelta(minutes=5)
FIRST = date(2026, 2, 1)


@pytest.fixture
def machine(db: None, store: Store) -> Machine:
    machine = make_machine(name="db-01")
    make_recovery_point(machine, state=PointState.PROVEN)
    return machine


def test_the_worst_of_a_day_is_kept(machine: Machine) -> None:
    record_day(NOW)
    assert StatusDay.objects.get().state == ReadinessState.READY

    Machine.objects.update(connection_state=ConnectionState.UNREACHABLE)
    record_day(NOW + timedelta(hours=2))
    Machine.objects.update(connection_state=ConnectionState.ONLINE)
    RecoveryPoint.objects.update(taken_at=NOW + timedelta(hours=3))
    record_day(NOW + timedelta(hours=3))

    kept = StatusDay.objects.get()
    assert (kept.state, kept.loss_seconds) == (ReadinessState.AT_RISK, 2 * 3600 + 300)


def test_each_day_has_a_record_of_its_own(machine: Machine) -> None:
    record_day(NOW)
    record_day(NOW)
    record_day(NOW + timedelta(days=1))
    assert [one.day.day for one in StatusDay.objects.all()] == [1, 2]


def test_days_are_read_back_with_gaps(
    machine: Machine, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    record_day(NOW - timedelta(days=2))
    record_day(NOW)
    with django_assert_num_queries(2):
        days = read_history(NOW, days=4)
    assert [day.total for day in days] == [0, 1, 0, 1]
    # Two days ago, the point was dated ahead.
    assert [day.loss_seconds for day in days] == [None, None, None, 300]


def test_what_is_older_than_anyone_is_shown_is_deleted(machine: Machine) -> None:
    for age in (0, DAYS_KEPT, DAYS_KEPT + 1):
        StatusDay.objects.create(
            machine=machine, day=NOW.date() - timedelta(days=age), state=ReadinessState.READY
        )
    forget_old_days(NOW)
    assert StatusDay.objects.count() == 2


def test_a_clock_that_was_just_set_deletes_no_day(machine: Machine, clock: Clock) -> None:
    """A clock that is years ahead for a minute makes every day look old."""
    old = StatusDay.objects.create(machine=machine, day=FIRST, state=ReadinessState.READY)
    clock.step(timedelta(days=3650))
    record_status()
    assert StatusDay.objects.filter(pk=old.pk).exists()


counts = st.dictionaries(st.sampled_from(ReadinessState), st.integers(1, 10_000))


@given(st.lists(counts, min_size=1, max_size=40))
def test_columns_fit_and_never_overlap(all_counts: list[dict[ReadinessState, int]]) -> None:
    days = [Day(FIRST + timedelta(days=at), each) for at, each in enumerate(all_counts)]
    chart = draw(days)
    if chart is None:
        assert not any(day.total for day in days)
        return
    for before, column in itertools.pairwise(chart.columns):
        assert before.x + before.width <= column.x
    for day, column in zip(days, chart.columns, strict=True):
        assert column.x + column.width <= WIDTH
        height = sum(segment.height for segment in column.segments)
        assert height == pytest.approx(HEIGHT * day.total / chart.most, abs=0.05)
        assert all(-0.05 <= segment.y <= HEIGHT for segment in column.segments)


def test_a_chart_says_in_words_what_it_shows() -> None:
    good, bad = {ReadinessState.READY: 3}, {ReadinessState.READY: 2, ReadinessState.NOT_READY: 1}
    chart = draw([Day(FIRST, good), Day(FIRST + timedelta(1), {}), Day(FIRST + timedelta(2), bad)])
    assert chart is not None
    assert chart.text == (
        "2 days recorded: on 1, every machine was ready all day; on 1, some could not be recovered "
        "for a time."
    )
    assert [column.text for column in chart.columns] == [
        "2026-02-01: 3 ready, 0 at risk, 0 not recoverable",
        "2026-02-02: nothing recorded",
        "2026-02-03: 2 ready, 0 at risk, 1 not recoverable",
    ]


def test_the_page_has_the_chart_and_the_same_as_a_table(
    signed_in: Client, machine: Machine
) -> None:
    assert "Nothing recorded yet." in as_read(signed_in.get("/status/"))
    record_status()
    page = as_read(signed_in.get("/status/"))
    assert 'aria-labelledby="history-title history-text"' in page
    assert "1 day recorded" in page
    assert "The same as a table" in page
    fragment = signed_in.get("/status/", headers={"HX-Request": "true"}).content.decode()
    assert "history-title" not in fragment
