"""The index of the recovery points in the store."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Count, Q, Sum
from django.utils import timezone

from protected_machines.choices import PointKind, PointState


class RecoveryPointQuerySet(models.QuerySet["RecoveryPoint"]):
    """Many recovery points."""

    def newest_first(self) -> Self:
        return self.order_by("-taken_at", "-id")

    def proven(self) -> Self:
        return self.filter(state=PointState.PROVEN)

    def usable(self) -> Self:
        """Points not known to be damaged."""
        return self.exclude(state=PointState.DAMAGED)

    def carried_on(self) -> Self:
        """Points on the main line."""
        return self.filter(is_carried_on=True)

    def totals(self) -> dict[str, int]:
        """Return `count` and `stored_bytes` over all of them."""
        found = self.aggregate(count=Count("id"), stored_bytes=Sum("stored_bytes"))
        return {"count": found["count"], "stored_bytes": found["stored_bytes"] or 0}


class RecoveryPoint(models.Model):
    """A recovery point of the store, in the index.

    The store is the truth. `index.reindex_store` rebuilds this table from it.

    States::

        unproven → proven    (every file of the chain matches its digests, and every grain of it
                              was inflated once and is what the machine had)
        unproven, proven → damaged    (a file of the chain is missing or differs)
        damaged → proven     (it was repaired from a copy, and proven again)
    """

    id = models.UUIDField(primary_key=True, editable=False)
    machine = models.ForeignKey(
        "protected_machines.Machine", on_delete=models.CASCADE, related_name="points"
    )
    taken_at = models.DateTimeField()
    kind = models.CharField(max_length=32, choices=PointKind.choices)
    parent_id = models.UUIDField(null=True, blank=True)
    ownership_epoch = models.PositiveBigIntegerField()
    taken_by_core_id = models.UUIDField()
    taken_by_core_name = models.CharField(max_length=200)
    stored_bytes = models.PositiveBigIntegerField()
    consistency = models.CharField(max_length=100, blank=True)
    manifest_digest = models.CharField(max_length=64)

    state = models.CharField(max_length=32, choices=PointState.choices, default=PointState.UNPROVEN)
    # Of the last good proof. Once it is set, the grains need not be inflated again.
    proven_at = models.DateTimeField(null=True, blank=True)
    damage_text = models.TextField(blank=True)
    # Whether it is on the main line. If not, the machine continued without it at another site: it
    # can still be restored, but is not replicated.
    is_carried_on = models.BooleanField(default=True)
    indexed_at = models.DateTimeField(default=timezone.now)

    objects = RecoveryPointQuerySet.as_manager()

    class Meta:
        ordering = ["-taken_at"]
        indexes = [
            models.Index(fields=["machine", "-taken_at"], name="point_machine_taken_at"),
            models.Index(
                fields=["taken_at"],
                condition=Q(state=PointState.UNPROVEN),
                name="point_unproven_taken_at",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind=PointKind.BASE_IMAGE, parent_id__isnull=True)
                | Q(kind=PointKind.INCREMENTAL, parent_id__isnull=False),
                name="point_incremental_has_a_parent",
            ),
            models.CheckConstraint(
                condition=~Q(state=PointState.PROVEN) | Q(proven_at__isnull=False),
                name="point_proven_says_when",
            ),
            models.CheckConstraint(
                condition=~Q(state=PointState.DAMAGED) | ~Q(damage_text=""),
                name="point_damage_says_what",
            ),
            models.CheckConstraint(
                condition=Q(state__in=PointState.values), name="point_state_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.taken_at:%Y-%m-%d %H:%M:%S} UTC"

    def mark_proven(self, now: datetime | None = None) -> None:
        """Save that every file of the chain was read and matches, and its grains inflate."""
        self._mark(PointState.PROVEN, now or timezone.now(), "")

    def mark_damaged(self, damage_text: str) -> None:
        """Save what does not match; `proven_at` keeps the time of the last good proof."""
        self._mark(PointState.DAMAGED, self.proven_at, damage_text or "damaged")

    def _mark(self, state: PointState, proven_at: datetime | None, damage_text: str) -> None:
        self.state, self.proven_at, self.damage_text = state, proven_at, damage_text
        self.save(update_fields=["state", "proven_at", "damage_text"])
