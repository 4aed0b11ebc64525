"""The application of `db-01`: appends a numbered, checksummed record to a journal, and syncs it.

Line n of the journal is `n time digest`. The digest is the SHA-256, in hex, of the previous line's
digest (empty for the first), n and the time, joined by single spaces. So a journal that was copied
completely can be told from one that was truncated, reordered or mixed from two machines.

It runs inside the guest and imports nothing of the project.
"""

import contextlib
import datetime
import hashlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

RECORDS_PER_SECOND = 4
TAIL_BYTES = 4096


@dataclass(frozen=True)
class Record:
    """One line of the journal."""

    number: int
    written_at: str
    digest: str

    def line(self) -> bytes:
        return f"{self.number} {self.written_at} {self.digest}\n".encode()


NOTHING = Record(0, "", "")


def next_record(before: Record, written_at: str) -> Record:
    """Return the record that follows `before`."""
    number = before.number + 1
    digest = hashlib.sha256(f"{before.digest} {number} {written_at}".encode()).hexdigest()
    return Record(number, written_at, digest)


def continue_journal(file_descriptor: int) -> Record:
    """Remove an unfinished line, and return the last complete record.

    Raises:
        ValueError: the last complete line is not a record; the journal is unchanged.
    """
    length_bytes = os.fstat(file_descriptor).st_size
    start = max(0, length_bytes - TAIL_BYTES)
    tail = os.pread(file_descriptor, length_bytes - start, start)
    whole, newline, _unfinished = tail.rpartition(b"\n")
    if not newline:
        if start > 0:
            raise ValueError(f"the journal's last {TAIL_BYTES} bytes hold no line")
        os.ftruncate(file_descriptor, 0)
        return NOTHING
    number, written_at, digest = whole.rpartition(b"\n")[2].decode("ascii").split(" ")
    last = Record(int(number), written_at, digest)
    os.ftruncate(file_descriptor, start + len(whole) + 1)
    return last


def append(file_descriptor: int, record: Record) -> None:
    """Write one complete record and make it durable, or leave the journal as it was."""
    end = os.lseek(file_descriptor, 0, os.SEEK_END)
    line = record.line()
    try:
        if os.write(file_descriptor, line) != len(line):
            raise OSError(f"wrote a part of record {record.number}")
        os.fsync(file_descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file_descriptor, end)
        raise


def run(path: Path) -> None:
    """Append records forever."""
    file_descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    last = continue_journal(file_descriptor)
    print(f"the journal continues after record {last.number}", flush=True)
    while True:
        written_at = datetime.datetime.now(datetime.timezone.utc).isoformat()  # noqa: UP017
        record = next_record(last, written_at)
        try:
            append(file_descriptor, record)
            last = record
        except OSError as error:
            print(f"record {record.number} was not written: {error}", flush=True)
            time.sleep(5)
        time.sleep(1 / RECORDS_PER_SECOND)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
