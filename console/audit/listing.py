"""Select entries: filters, pages by number, and exports. Fast however long the log is."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet

from console.audit.chain import FORMAT
from console.audit.log import read_head
from console.audit.models import Entry
from console.identity import this_core

ENTRIES_PER_PAGE = 50
_LOT = 2000


@dataclass(frozen=True)
class Filters:
    """Which entries are wanted; empty: all. Days are of UTC, and both belong to the range."""

    person: str = ""
    act: str = ""
    object: str = ""
    since: date | None = None
    until: date | None = None

    @property
    def given(self) -> dict[str, str]:
        """The filters that are set, as in the address of the page."""
        values = {
            "person": self.person,
            "act": self.act,
            "object": self.object,
            "since": self.since.isoformat() if self.since else "",
            "until": self.until.isoformat() if self.until else "",
        }
        return {name: value for name, value in values.items() if value}

    def apply(self) -> QuerySet[Entry]:
        """Return the entries, newest first. Each filter is answered from an index."""
        wanted = Q()
        if self.person:
            wanted &= Q(actor_name=self.person)
        if self.act:
            wanted &= Q(act=self.act)
        if self.object:
            wanted &= Q(object_name=self.object) | Q(object_id=self.object)
        if self.since:
            wanted &= Q(at__gte=datetime.combine(self.since, time(), UTC))
        if self.until:
            wanted &= Q(at__lt=datetime.combine(self.until + timedelta(days=1), time(), UTC))
        return Entry.objects.filter(wanted).order_by("-number")


@dataclass(frozen=True)
class Page:
    """Some entries, newest first, and the numbers to look on from; None at either end."""

    entries: list[Entry] = field(default_factory=list)
    older_than: int | None = None
    newer_than: int | None = None


def read_page(filters: Filters, older_than: int | None, newer_than: int | None) -> Page:
    """Return the entries next to a number, the newest without one."""
    entries = filters.apply()
    if newer_than is not None:
        nearest = entries.filter(number__gt=newer_than).order_by("number")
        found = list(nearest[: ENTRIES_PER_PAGE + 1])
        shown = found[:ENTRIES_PER_PAGE][::-1]
        has_newer, has_older = len(found) > ENTRIES_PER_PAGE, bool(shown)
    else:
        nearest = entries if older_than is None else entries.filter(number__lt=older_than)
        found = list(nearest[: ENTRIES_PER_PAGE + 1])
        shown = found[:ENTRIES_PER_PAGE]
        has_newer, has_older = older_than is not None, len(found) > ENTRIES_PER_PAGE
    return Page(
        shown,
        shown[-1].number if shown and has_older else None,
        shown[0].number if shown and has_newer else None,
    )


def export_lines(filters: Filters) -> Iterator[str]:
    """Yield the lines of an export, oldest first; the first says what it is."""
    head = read_head()
    core = {"format": FORMAT, "core_id": this_core().id, "core_name": settings.UNDERSTUDY_CORE_NAME}
    if filters.given:
        yield _line({**core, "is_whole": False, "filter": filters.given})
    else:
        whole = {"is_whole": True, "entries": head.number, "head_digest": head.digest}
        yield _line({**core, **whole})
    last = 0
    wanted = filters.apply().filter(number__lte=head.number).order_by("number")
    while lot := list(wanted.filter(number__gt=last)[:_LOT]):
        yield "".join(_line(entry.facts) for entry in lot)
        last = lot[-1].number


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
