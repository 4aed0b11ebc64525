"""What must keep its pace when this computer's clock is set: periodic tasks, and waits.

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


def is_within(then: datetime.datetime | None, seconds: float, now: datetime.datetime) -> bool:
    """Tell whether something happened at most so many seconds ago.

    A time ahead of now is from before the clock was set back. It holds up nothing.
    """
    length = datetime.timedelta(seconds=seconds)
    return then is not None and datetime.timedelta(0) <= now - then < length


def _now() -> datetime.datetime:
    return _STARTED_AT + datetime.timedelta(seconds=time.monotonic() - _STARTED_SECONDS)
