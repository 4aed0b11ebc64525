"""What work says to its job, and what it hears from it."""

import pytest

from console.jobs.errors import JobCancelled
from console.jobs.report import SILENCE, CancelOnly, at_each_slice
from tests.reports import Told


def cancel() -> None:
    raise JobCancelled


def test_each_slice_is_told() -> None:
    told: list[tuple[int, int]] = []
    at_each_slice(Told(lambda *figures: told.append(figures)))(1, 2)
    assert told == [(1, 2)]


def test_a_cancel_is_heeded_before_a_slice_is_told() -> None:
    told: list[tuple[int, int]] = []
    on_slice = at_each_slice(Told(lambda *figures: told.append(figures), check_cancel=cancel))
    with pytest.raises(JobCancelled):
        on_slice(1, 2)
    assert told == []


def test_work_inside_work_hears_a_cancel_and_tells_nothing() -> None:
    told: list[object] = []
    report = CancelOnly(Told(told.append, told.append, cancel))
    report.progress(1, 2)
    report.note("something")
    assert told == []
    with pytest.raises(JobCancelled):
        report.check_cancel()


def test_silence_hears_no_cancel() -> None:
    at_each_slice(SILENCE)(1, 2)
    SILENCE.note("something")
