"""What long work says to the job that it is done for, and hears from it.

A step passes its context on; work that no job waits for is done in silence.
"""

from collections.abc import Callable
from typing import Protocol


class Report(Protocol):
    """Progress and notes go up, a cancel comes down."""

    def progress(self, done_bytes: int, total_bytes: int | None = None) -> None:
        """Say how far it is. Cheap: may be called for every slice, from any thread."""

    def note(self, text: str) -> None:
        """Say something to the people who watch; it never steers code."""

    def check_cancel(self) -> None:
        """Stop here if the job was cancelled, the step's limit is over or the lease is lost.

        To be called between slices, after looking for what an earlier attempt left.

        Raises:
            JobCancelled: somebody asked to cancel.
            StepTimedOut: the limit is over.
        """


class Silence:
    """The report of work that nobody watches or cancels."""

    def progress(self, done_bytes: int, total_bytes: int | None = None) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def check_cancel(self) -> None:
        """Go on."""


SILENCE = Silence()


class CancelOnly(Silence):
    """Hears a cancel of the report it was made of, and says nothing to it."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def check_cancel(self) -> None:
        self._report.check_cancel()


def at_each_slice(report: Report) -> Callable[[int, int], None]:
    """Return what is to be called with the bytes done and in all: it heeds a cancel, then tells."""

    def on_slice(done_bytes: int, total_bytes: int) -> None:
        report.check_cancel()
        report.progress(done_bytes, total_bytes)

    return on_slice
