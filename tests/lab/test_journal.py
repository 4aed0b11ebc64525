"""The journal's format, and that it continues where it ended."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.guest.journal import NOTHING, append, continue_journal, next_record

TIME = "2026-11-24T10:00:00.000000+00:00"


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def write_records(path: Path, count: int) -> list[str]:
    with opened(path) as descriptor:
        record = continue_journal(descriptor)
        for _ in range(count):
            record = next_record(record, TIME)
            append(descriptor, record)
    return path.read_text().splitlines()


def test_a_line_is_number_time_and_the_digest_over_the_line_before(tmp_path: Path) -> None:
    first, second = write_records(tmp_path / "journal", 2)
    first_digest = hashlib.sha256(f" 1 {TIME}".encode()).hexdigest()
    second_digest = hashlib.sha256(f"{first_digest} 2 {TIME}".encode()).hexdigest()
    assert first == f"1 {TIME} {first_digest}"
    assert second == f"2 {TIME} {second_digest}"


def test_a_journal_goes_on_after_its_last_record(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    before = write_records(journal, 200)
    after = write_records(journal, 3)
    assert after[:200] == before
    assert [line.split()[0] for line in after[200:]] == ["201", "202", "203"]
    last_but_one, last = (line.split() for line in after[-2:])
    assert last[2] == hashlib.sha256(f"{last_but_one[2]} 203 {TIME}".encode()).hexdigest()


@pytest.mark.parametrize("cut_bytes", [1, 40, 98])
def test_a_line_that_was_not_finished_is_cut_off(tmp_path: Path, cut_bytes: int) -> None:
    journal = tmp_path / "journal"
    whole = write_records(journal, 5)
    with journal.open("r+b") as file:
        file.truncate(journal.stat().st_size - cut_bytes)
    assert write_records(journal, 1) == whole


def test_a_journal_with_one_unfinished_line_starts_over(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_text("1 2026")
    with opened(journal) as descriptor:
        assert continue_journal(descriptor) == NOTHING
    assert journal.read_bytes() == b""


def test_a_journal_of_something_else_is_not_touched(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_bytes(b"x" * 10_000)
    with opened(journal) as descriptor, pytest.raises(ValueError, match="hold no line"):
        continue_journal(descriptor)
    assert journal.read_bytes() == b"x" * 10_000


def test_a_record_that_does_not_fit_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    whole = write_records(journal, 2)
    reader = os.open(journal, os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        append(reader, next_record(NOTHING, TIME))
    os.close(reader)
    assert journal.read_text().splitlines() == whole
