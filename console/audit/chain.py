"""How entries are chained, and whether an export still is a chain; no Django.

An entry's digest is the SHA-256 of its canonical form, which contains the digest of the entry
before. `docs/audit.md` describes the form exactly; `docs/check_audit.py` checks exports without
this package.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FORMAT = "understudy-audit-1"
# What the first entry has in place of the digest of the entry before.
NO_ENTRY = "0" * 64


class ChainBroken(Exception):
    """An export is not the chain that was exported; the text says where and why."""


@dataclass(frozen=True)
class Checked:
    """What an unbroken export holds. `known_number`: the entry whose digest was given."""

    entries: int
    head_digest: str
    known_number: int | None


def canonical(facts: Mapping[str, str | int]) -> bytes:
    """Return the bytes that an entry's digest is made of: all of its facts but the digest."""
    rest = {key: value for key, value in facts.items() if key != "digest"}
    return json.dumps(rest, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def digest_of(facts: Mapping[str, str | int]) -> str:
    """Return the SHA-256 of an entry's canonical form, in lower-case hex."""
    return hashlib.sha256(canonical(facts)).hexdigest()


def check(lines: Iterable[str], known_digest: str = "") -> Checked:
    """Check an export of the whole log, line by line.

    known_digest: the head digest that was noted before, such as in a report. Without it, nobody can
        tell whether the last entries are missing, or whether the log was rewritten.

    Raises:
        ChainBroken: it is not the whole log, as it was.
    """
    rows = (_row(number, line) for number, line in enumerate(lines, start=1))
    head = next(rows, {})
    if head.get("format") != FORMAT:
        raise ChainBroken(f"Line 1: this is no export of an audit log in the form {FORMAT}.")
    if not head.get("is_whole"):
        raise ChainBroken(
            "This is a filtered export, and so no chain. Export the whole log to check it."
        )
    number, digest, known_number = 0, NO_ENTRY, None
    for row in rows:
        number += 1
        if row.get("number") != number:
            raise ChainBroken(f"Entry {number} is missing: entry {row.get('number')} follows.")
        if row.get("previous_digest") != digest:
            raise ChainBroken(f"Entry {number} does not follow on the entry before it.")
        digest = digest_of(row)
        if row.get("digest") != digest:
            raise ChainBroken(f"Entry {number} was altered: its digest does not fit its facts.")
        known_number = number if digest == known_digest else known_number
    if (head.get("entries"), head.get("head_digest")) != (number, digest):
        raise ChainBroken(
            f"The export ends with entry {number}, but its first line names {head.get('entries')} "
            "entries and another head digest: the end is missing or was altered."
        )
    if known_digest and known_number is None:
        raise ChainBroken(
            "No entry has the given head digest: entries are missing at the end, or the log "
            "was rewritten."
        )
    return Checked(number, digest, known_number)


def _row(number: int, line: str) -> dict[str, str | int]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise ChainBroken(f"Line {number} is no entry: it was cut or altered.")
    return row
