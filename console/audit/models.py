"""Rows of the audit log. Only `log.py` writes them."""

from typing import Any

from django.db import models

from console.audit.chain import digest_of
from console.audit.choices import ActorKind, Outcome


class AppendOnly(Exception):
    """The program tried to change or delete an entry: a bug in this program."""


class EntryQuerySet(models.QuerySet["Entry"]):
    """Entries can be read and added."""

    def update(self, **changes: Any) -> int:
        raise AppendOnly("entries of the audit log are never changed")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise AppendOnly("entries of the audit log are never deleted")


class Entry(models.Model):
    """One act: who did what, when, from where, to what, why, and how it went.

    Each contains the digest of the entry before, and is contained in the digest of the next. All
    texts; what is not known is empty.
    """

    number = models.PositiveBigIntegerField(primary_key=True)
    at = models.DateTimeField(db_index=True)
    actor_kind = models.CharField(max_length=20, choices=ActorKind.choices)
    actor_id = models.CharField(max_length=64, blank=True)
    actor_name = models.CharField(max_length=255)
    address = models.CharField(max_length=45, blank=True)
    act = models.CharField(max_length=100)
    sentence = models.TextField()
    object_kind = models.CharField(max_length=40, blank=True)
    object_id = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=255, blank=True)
    reason = models.TextField(blank=True)
    outcome = models.CharField(max_length=20, choices=Outcome.choices)
    # No two entries follow on the same one.
    previous_digest = models.CharField(max_length=64, unique=True)
    digest = models.CharField(max_length=64)

    objects = EntryQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        indexes = [
            models.Index(fields=["actor_name", "-number"], name="audit_by_actor"),
            models.Index(fields=["act", "-number"], name="audit_by_act"),
            models.Index(fields=["object_name", "-number"], name="audit_by_object_name"),
            models.Index(fields=["object_id", "-number"], name="audit_by_object"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.act}"

    def save(self, *args: Any, **options: Any) -> None:
        """Refuse: `log.py` adds entries in bulk, with their numbers and digests."""
        raise AppendOnly("entries are added through console.audit.log")

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnly("entries of the audit log are never deleted")

    @property
    def facts(self) -> dict[str, str | int]:
        """The facts of an entry as exports hold them, with its digest."""
        columns = {field.attname: getattr(self, field.attname) for field in self._meta.fields}
        return {**columns, "at": f"{self.at:%Y-%m-%dT%H:%M:%S.%fZ}"}

    def seal(self) -> None:
        """Set the digest, once all else is set."""
        self.digest = digest_of(self.facts)


class PendingEntry(models.Model):
    """An entry that is committed with its act, and not in the chain yet.

    A transaction that appended to the chain itself would keep all others from doing so until it
    ends, and could wait for one of them in turn.
    """

    facts = models.JSONField()

    def __str__(self) -> str:
        return str(self.facts.get("act"))


class Head(models.Model):
    """The end of the chain, which whoever appends locks; one row."""

    number = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"{self.number} {self.digest}"
