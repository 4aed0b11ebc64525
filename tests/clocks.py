"""A stand-in for this computer's clock, which tests set wrong and right again."""

import datetime
import time
from datetime import timedelta

import pytest
from django.utils import timezone

# Both ways: what one time server more or less makes of it, and what an empty battery does.
STEPS = [timedelta(minutes=10), timedelta(minutes=-10), timedelta(days=365), timedelta(days=-365)]
stepped = pytest.mark.parametrize("step", STEPS)


class Clock:
    """The clock, and the time that has really passed: `step` moves one, `pass_time` moves both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now, self._monotonic = timezone.now, time.monotonic
        self._clock_gettime = time.clock_gettime
        self._off = self._passed = timedelta()
        monkeypatch.setattr(timezone, "now", self.now)
        monkeypatch.setattr(time, "time", lambda: self.now().timestamp())
        monkeypatch.setattr(time, "monotonic", self._real_seconds)
        monkeypatch.setattr(time, "clock_gettime", self._boot_seconds)

    def now(self) -> datetime.datetime:
        """Return what the clock shows."""
        return self._now() + self._off + self._passed

    def step(self, by: timedelta) -> None:
        """Set the clock wrong by so much."""
        self._off += by

    def put_right(self) -> None:
        self._off = timedelta()

    def pass_time(self, seconds: float) -> None:
        self._passed += timedelta(seconds=seconds)

    def _real_seconds(self) -> float:
        return self._monotonic() + self._passed.total_seconds()

    def _boot_seconds(self, which: int) -> float:
        return self._clock_gettime(which) + self._passed.total_seconds()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)
