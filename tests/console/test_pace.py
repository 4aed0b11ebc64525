"""Periodic tasks keep their pace whatever happens to the clock, and after a restart."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from celery.beat import ScheduleEntry
from celery.utils.imports import symbol_by_name

from console.celery import app
from tests.clocks import Clock, stepped

SNAPSHOTS, RESCUE, PRUNE = (
    "protected_machines.start_due_snapshots",
    "jobs.rescue_stale_jobs",
    "jobs.prune_jobs",
)


@pytest.fixture
def started(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Lets time pass for the scheduler that workers use; returns which tasks it has sent."""
    monkeypatch.setattr(type(app), "now", lambda _self: clock.now())
    sent: list[str] = []

    class Recording(symbol_by_name(app.conf.beat_scheduler)):  # type: ignore[misc]
        producer = None

        def apply_async(self, entry: ScheduleEntry, **_options: object) -> None:
            sent.append(entry.name)

    scheduler = Recording(app)

    def pass_time(seconds: int, stride_seconds: int = 1) -> list[str]:
        sent.clear()
        for _ in range(0, seconds, stride_seconds):
            clock.pass_time(stride_seconds)
            while scheduler.tick() == 0:
                pass
        return list(sent)

    return pass_time


@stepped
def test_tasks_keep_their_pace_while_the_clock_is_off_and_afterwards(
    clock: Clock, started: Callable[..., list[str]], step: timedelta
) -> None:
    started(30)
    for change in (lambda: clock.step(step), clock.put_right, lambda: clock.step(-step)):
        change()
        sent = started(60)
        assert 10 <= sent.count(SNAPSHOTS) <= 13
        assert 10 <= sent.count(RESCUE) <= 13
        assert sent.count(PRUNE) == 0
    assert started(3600, 60).count(PRUNE) == 1


def test_no_time_of_a_last_run_outlives_the_scheduler() -> None:
    # One from the future would hold up the task until then.
    assert app.conf.beat_scheduler == "celery.beat:Scheduler"
