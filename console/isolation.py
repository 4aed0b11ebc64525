"""Let a periodic task treat its rows one by one, so that the fault of one costs only that one."""

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError

logger = logging.getLogger(__name__)

Row = TypeVar("Row")


def isolate_each(rows: Iterable[Row], act: Callable[[Row], object], what: str) -> int:
    """Call `act` with every row; log what fails with its traceback, and go on with the next.

    Returns how many acts succeeded. A database that is away and a time that is up concern all rows,
    so those are raised.

    what: the name of the task in the log.
    """
    return sum(isolate(row, act, what) for row in rows)


def isolate(row: Row, act: Callable[[Row], object], what: str) -> bool:
    """Call `act` with one row as in `isolate_each`; return whether that succeeded."""
    try:
        act(row)
    except (SoftTimeLimitExceeded, OperationalError, InterfaceError):
        raise
    except Exception:  # whatever it is, it is the fault of this row
        logger.exception("periodic task skips a row task=%s row=%s", what, row)
        return False
    return True
