"""The quote of a failback: pure arithmetic on facts."""

import pytest

from replication.failback.quote import (
    FREEZE_SECONDS,
    OVERHEAD_SECONDS,
    START_SECONDS,
    PastPoint,
    QuoteFacts,
    add_quotes,
    changed_bytes,
    make_quote,
)

MB = 1_000_000


def facts(**changes: object) -> QuoteFacts:
    values: dict[str, object] = {
        "missing_bytes": 400 * MB,
        "missing_points": 3,
        "has_common_point": True,
        "restore_bytes": 2000 * MB,
        "capacity_bytes": 8_000 * MB,
        "newest_age_seconds": 0.0,
        "send_bps": 100 * MB,
        "restore_bps": 50 * MB,
        "snapshot_seconds": 4.0,
        "boot_seconds": 30.0,
    }
    return QuoteFacts(**{**values, **changes})  # type: ignore[arg-type]


def test_bytes_that_are_there_are_counted_exactly() -> None:
    quote = make_quote(facts())
    assert quote.send_bytes == 400 * MB
    assert quote.send_points == 6
    assert quote.restore_bytes == 2000 * MB
    assert quote.final_bytes == 0


def test_times_are_those_of_past_jobs() -> None:
    quote = make_quote(facts())
    assert quote.copy_seconds == pytest.approx(4 + 4 + 5 + 40 + 4)
    assert quote.down_seconds == pytest.approx(4 + 30 + OVERHEAD_SECONDS)


def test_a_machine_that_is_watched_does_not_stand_still_while_whole_disks_are_read() -> None:
    quote = make_quote(facts(can_watch=True))
    assert quote.copy_seconds == make_quote(facts()).copy_seconds
    assert quote.down_seconds == pytest.approx(FREEZE_SECONDS + 30 + OVERHEAD_SECONDS)


def test_what_is_still_written_is_judged_by_what_was_written_lately() -> None:
    past = [PastPoint(10 * MB, 600), PastPoint(12 * MB, 600), PastPoint(8 * MB, 600)]
    quote = make_quote(facts(past_points=past, newest_age_seconds=600 - START_SECONDS))
    catch_up_bytes = 10 * MB
    first_seconds = 4 + (400 * MB + catch_up_bytes) / (100 * MB) + (2010 / 400) + (2010 / 50)
    running_bytes = changed_bytes(past, first_seconds)
    running_seconds = quote.copy_seconds - first_seconds
    assert running_seconds == pytest.approx(4 + running_bytes * (1 / 100 + 1 / 50) / MB)
    assert quote.final_bytes == changed_bytes(past, running_seconds + OVERHEAD_SECONDS)
    assert quote.send_bytes == 400 * MB + catch_up_bytes + running_bytes + quote.final_bytes
    assert 0 < quote.final_bytes < running_bytes < catch_up_bytes


def test_a_longer_time_is_worth_less_than_its_share_and_has_an_end() -> None:
    past = [PastPoint(10 * MB, 100), PastPoint(20 * MB, 100)]
    assert changed_bytes(past, 0) == 0
    assert changed_bytes(past, 100) == 15 * MB
    assert changed_bytes(past, 1_000_000) == 20 * MB
    assert changed_bytes([], 1_000) == 0


def test_a_longer_time_is_not_worth_less_than_a_shorter_one_took() -> None:
    past = [PastPoint(9 * MB, 3600), PastPoint(8 * MB, 10), PastPoint(10 * MB, 3600)]
    assert changed_bytes(past, 5) < 8 * MB
    assert changed_bytes(past, 20) == 8 * MB


def test_a_point_that_is_being_taken_is_sent_too() -> None:
    past = [PastPoint(10 * MB, 600)] * 3
    quiet = make_quote(facts(past_points=past, newest_age_seconds=600))
    taking = make_quote(facts(past_points=past, newest_age_seconds=600, is_taking_point=True))
    assert taking.send_points == quiet.send_points + 1
    start_bytes = changed_bytes(past, START_SECONDS)
    assert taking.send_bytes == pytest.approx(quiet.send_bytes + start_bytes, rel=0.01)


def test_without_any_past_job_there_is_an_answer() -> None:
    quote = make_quote(
        facts(send_bps=None, restore_bps=None, snapshot_seconds=None, boot_seconds=None)
    )
    assert quote.copy_seconds > 0
    assert quote.down_seconds > OVERHEAD_SECONDS


def test_of_several_machines_bytes_add_up_and_the_slowest_counts() -> None:
    fast, slow = make_quote(facts()), make_quote(facts(boot_seconds=90, has_common_point=False))
    both = add_quotes([fast, slow])
    assert both.send_bytes == 800 * MB
    assert both.down_seconds == slow.down_seconds
    assert not both.has_common_point
