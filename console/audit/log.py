"""Append to the audit log, and read its end.

An entry is first written as pending, in the transaction of its act: neither exists without the
other. Once that is committed, whoever comes first moves what is pending to the end of the chain,
one process at a time. What a process that died has left pending, the next one moves.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction
from django.utils import timezone

from console.audit.chain import NO_ENTRY
from console.audit.choices import Outcome
from console.audit.door import current_door
from console.audit.models import Entry, Head, PendingEntry

logger = logging.getLogger(__name__)

_HEAD = 1
_LOT = 500
_TEXT_LIMIT = 4000


@dataclass(frozen=True)
class Subject:
    """The object that an act is about."""

    kind: str
    id: str
    name: str


NOTHING = Subject("", "", "")


def record(
    act: str,
    sentence: str,
    subject: Subject = NOTHING,
    *,
    outcome: Outcome = Outcome.DONE,
    reason: str = "",
) -> None:
    """Add an entry, by whoever came through the door, or else by this core itself.

    In a transaction, the entry is written with it, or not at all.

    act: a stable code, see `docs/audit.md`.
    """
    door = current_door()
    door.entries += 1
    facts = {
        "at": timezone.now().astimezone(UTC).isoformat(),
        "actor_kind": str(door.actor.kind),
        "actor_id": door.actor.id,
        "actor_name": door.actor.name,
        "address": door.actor.address,
        "act": act,
        "sentence": sentence,
        "object_kind": subject.kind,
        "object_id": subject.id,
        "object_name": subject.name,
        "reason": reason,
        "outcome": str(outcome),
    }
    PendingEntry.objects.create(facts={key: _plain(key, text) for key, text in facts.items()})
    logger.info("audit act=%s actor=%s outcome=%s", act, door.actor.kind, outcome)
    transaction.on_commit(chain_pending, robust=True)


def chain_pending() -> None:
    """Move all pending entries to the end of the chain."""
    while PendingEntry.objects.exists():
        with transaction.atomic():
            head = _locked_head()
            pending = list(PendingEntry.objects.order_by("pk")[:_LOT])
            entries = [_append(head, row.facts) for row in pending]
            Entry.objects.bulk_create(entries)
            PendingEntry.objects.filter(pk__in=[row.pk for row in pending]).delete()
            head.save(update_fields=["number", "digest"])


def read_head() -> Head:
    """Return the number and the digest of the newest entry, with nothing left pending."""
    chain_pending()
    return Head.objects.filter(pk=_HEAD).first() or Head(number=0, digest=NO_ENTRY)


def _locked_head() -> Head:
    Head.objects.get_or_create(pk=_HEAD, defaults={"number": 0, "digest": NO_ENTRY})
    return Head.objects.select_for_update().get(pk=_HEAD)


def _append(head: Head, facts: dict[str, str]) -> Entry:
    """Return the next entry, and move the head to it."""
    entry = Entry(
        number=head.number + 1,
        previous_digest=head.digest,
        **{**facts, "at": datetime.fromisoformat(facts["at"])},
    )
    entry.seal()
    head.number, head.digest = entry.number, entry.digest
    return entry


def _plain(key: str, text: str) -> str:
    """Return the text as every database stores it, and no longer than its column."""
    limit = getattr(Entry._meta.get_field(key), "max_length", None) or _TEXT_LIMIT
    return text.encode("utf-8", "replace").decode().replace("\0", "�")[:limit]
