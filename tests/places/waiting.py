"""Wait for a state, with a limit."""

import time
from collections.abc import Callable

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.5


def wait_until(
    is_so: Callable[[], object],
    what: str = "",
    limit_seconds: float = 60,
    detail: Callable[[], object] = str,
) -> None:
    """Return once `is_so()`; after the limit fail, naming what was awaited and what was seen."""
    deadline = time.monotonic() + limit_seconds
    pause_seconds = FIRST_PAUSE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"waited {limit_seconds} s for {what}\n{detail()}"
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.2, LONGEST_PAUSE_SECONDS)
