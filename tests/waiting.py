"""Wait for a state, with a limit."""

import time
from collections.abc import Callable


def wait_until(
    is_so: Callable[[], bool],
    what: str,
    limit_seconds: float,
    detail: Callable[[], str] = str,
) -> None:
    """Return once `is_so()`; after the limit fail, naming what was awaited and what was seen."""
    deadline = time.monotonic() + limit_seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_seconds} s for {what}\n{detail()}")
        time.sleep(0.5)
