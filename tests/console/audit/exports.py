"""Make entries, and exports of them."""

import json
from pathlib import Path

from console.audit.chain import FORMAT
from console.audit.log import Subject, read_head, record
from console.audit.models import Entry

WEB_01 = Subject("machine", "0b2e6a1c-7a39-4a8e-b5a5-6a0e3c1f2d10", "web-01")


def make_entries(count: int, **facts: str) -> list[Entry]:
    """Record acts, and return all entries, oldest first."""
    for number in range(count):
        record("jobs.start.snapshot", f"Snapshot {number} of web-01 started.", WEB_01, **facts)
    read_head()
    return list(Entry.objects.order_by("number"))


def export_lines() -> list[str]:
    """Return the lines of an export of the whole log."""
    head = read_head()
    first = {
        "format": FORMAT,
        "is_whole": True,
        "entries": head.number,
        "head_digest": head.digest,
    }
    facts = [entry.facts for entry in Entry.objects.order_by("number")]
    return [json.dumps(row, ensure_ascii=False) for row in (first, *facts)]


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
