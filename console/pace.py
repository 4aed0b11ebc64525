"""The pace of periodic tasks, which must not depend on this computer's clock.

Celery's scheduler compares the time of a task's last run with the clock. Once the clock is set back
by an hour, it would start nothing for an hour.
"""

import datetime
import time

from celery.schedules import schedule

_STARTED_AT, _STARTED_SECONDS = datetime.datetime.now(datetime.UTC), time.monotonic()


def every(seconds: float) -> schedule:
    """Return a schedule that is due whenever so many seconds have really passed."""
    return schedule(seconds, nowfun=_now)


def _now() -> datetime.datetime:
    return _STARTED_AT + datetime.timedelta(seconds=time.monotonic() - _STARTED_SECONDS)
