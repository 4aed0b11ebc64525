"""How long-running work reports to its job, and learns of a cancel.

A step passes its context on; work outside a job uses `SILENCE`.
"""

from collections.abc import Callable
from typing import Protocol


class Report(Protocol):
    """Progress and notes go up; a cancel comes down."""

    def progress(self, done_bytes: int, total_bytes: int | None = None) -> None:
        """Report progress. Cheap: may be called for every slice, from any thread."""

    def note(self, text: str) -> None:
        """Show a text to people who watch; code never depends on it."""

    def check_cancel(self) -> None:
        """Stop here if the job was cancelled, the step's limit is over or the lease is lost.

        Call it between slices, after checking for what an earlier attempt left.

        Raises:
            JobCancelled: someone cancelled the job.
            StepTimedOut: the limit is over.
        """


class Silence:
    """The report of work that nobody watches or cancels."""

    def progress(self, done_bytes: int, total_bytes: int | None = None) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def check_cancel(self) -> None:
        """Continue."""


SILENCE = Silence()


class CancelOnly(Silence):
    """Passes on a cancel from another report, but reports nothing to it."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def check_cancel(self) -> None:
        self._report.check_cancel()


def at_each_slice(report: Report) -> Callable[[int, int], None]:
    """Return a callback for each slice, which checks for a cancel and then reports progress."""

    def on_slice(done_bytes: int, total_bytes: int) -> None:
        report.check_cancel()
        report.progress(done_bytes, total_bytes)

    return on_slice
