"""The fault of one row costs a periodic task that row only."""

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import OperationalError

from console.isolation import isolate_each


def test_a_row_that_fails_keeps_out_no_other(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def act(row: int) -> None:
        seen.append(10 // row)

    assert isolate_each([1, 0, 5], act, "divide") == 2
    assert seen == [10, 2]
    assert "periodic task skips a row task=divide row=0" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded(), OperationalError("database is locked")])
def test_what_concerns_all_rows_ends_the_run(error: Exception) -> None:
    seen: list[int] = []

    def act(row: int) -> None:
        seen.append(row)
        raise error

    with pytest.raises(type(error)):
        isolate_each([1, 2], act, "fail")
    assert seen == [1]
