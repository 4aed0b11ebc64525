"""No setting of the clock puts off the end of a hold."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.client import Deadline
from tests.clocks import STEPS, Clock


@pytest.mark.parametrize("step", STEPS)
def test_a_deadline_passes_at_the_latest_when_its_time_is_over(
    clock: Clock, step: timedelta
) -> None:
    ends = Deadline.from_json(Deadline.now().after(120).to_json())
    assert not ends.is_past
    clock.step(step)
    # One that is passed too early costs another attempt, one passed too late the last writes.
    assert ends.is_past == (step > timedelta(0))
    clock.pass_time(121)
    assert ends.is_past
    clock.put_right()
    assert ends.is_past


def test_after_a_restart_nobody_can_tell() -> None:
    assert replace(Deadline.now().after(120), boot_id="another").is_past


def test_in_a_vm_that_was_suspended_the_clock_counts(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = Deadline.now().after(120)
    monkeypatch.setattr("time.clock_gettime", lambda _which: ends.boot_seconds - 100)
    assert not ends.is_past
    clock.pass_time(121)
    assert ends.is_past
