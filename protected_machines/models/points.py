"""The index of the recovery points in the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from django.db import models, transaction
from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from console.wording import span
from protected_machines.choices import PointKind, PointState
from recovery_store.order import Link, in_order

# A point dated further ahead than this was taken, or is looked at, with a wrong clock.
AHEAD_SECONDS = 300

_BATCH = 500


class RecoveryPointQuerySet(models.QuerySet["RecoveryPoint"]):
    """Many recovery points."""

    def newest_first(self) -> Self:
        """In the order of the chain: see `RecoveryPoint.position`."""
        return self.order_by("-position", "-taken_at", "-id")

    def oldest_first(self) -> Self:
        return self.order_by("position", "taken_at", "id")

    def next_position(self) -> int:
        """Return the place of a point that is newer than all of them."""
        return (self.aggregate(last=models.Max("position"))["last"] or 0) + 1

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
    # By the clock of the core that took it: for people to read. `position` says what is newer.
    taken_at = models.DateTimeField()
    # Its place among the machine's points, from the oldest up: see `recovery_store.order`.
    position = models.PositiveBigIntegerField(default=0, editable=False)
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
        ordering = ["-position", "-taken_at", "-id"]
        indexes = [
            models.Index(
                fields=["machine", "-position", "-taken_at", "-id"], name="point_machine_position"
            ),
            models.Index(
                fields=["machine", "-position"],
                condition=Q(state=PointState.UNPROVEN),
                name="point_unproven_position",
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

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the point; a new one gets its place among the machine's points."""
        if not self._state.adding or self.position:
            super().save(*args, **kwargs)
            return
        others = RecoveryPoint.objects.filter(machine=self.machine_id)
        with transaction.atomic():
            newest = others.newest_first().first()
            self.position = newest.position + 1 if newest else 1
            known = (
                []
                if self._comes_after(newest)
                else list(others.oldest_first().values_list("pk", flat=True))
            )
            super().save(*args, **kwargs)
            if known:
                arrange_points(self.machine_id, known)
                self.refresh_from_db(fields=["position"])

    def _comes_after(self, newest: RecoveryPoint | None) -> bool:
        """Whether it surely is newer than the newest one, so that nothing has to be arranged."""
        if newest is None:
            return True
        if self.ownership_epoch < newest.ownership_epoch:
            return False
        if self.parent_id != newest.pk and self.taken_at < newest.taken_at:
            return False
        return not RecoveryPoint.objects.filter(machine=self.machine_id, parent_id=self.pk).exists()

    @property
    def is_ahead(self) -> bool:
        """Whether it is dated ahead of now, so that its age is unknown."""
        return is_ahead(self.taken_at, timezone.now())

    def mark_proven(self, now: datetime | None = None) -> None:
        """Save that every file of the chain was read and matches, and its grains inflate."""
        self._mark(PointState.PROVEN, now or timezone.now(), "")

    def mark_damaged(self, damage_text: str) -> None:
        """Save what does not match; `proven_at` keeps the time of the last good proof."""
        self._mark(PointState.DAMAGED, self.proven_at, damage_text or "damaged")

    def _mark(self, state: PointState, proven_at: datetime | None, damage_text: str) -> None:
        self.state, self.proven_at, self.damage_text = state, proven_at, damage_text
        self.save(update_fields=["state", "proven_at", "damage_text"])


def position_of(machine: Any, point_id: Any, taken_at: Any) -> Coalesce:
    """Return the place of a point that may be gone, for queries; 0 stands before all points.

    The values may be references to an outer query. Only if there is no such point is its time
    compared with those of the machine's points.
    """
    points = RecoveryPoint.objects.filter(machine=machine)
    older = points.filter(taken_at__lte=taken_at).newest_first()
    return Coalesce(
        models.Subquery(points.filter(pk=point_id).values("position")[:1]),
        models.Subquery(older.values("position")[:1]),
        0,
    )


def is_ahead(taken_at: datetime | None, now: datetime) -> bool:
    """Whether a time is so far ahead of now that one of the two clocks is wrong."""
    return taken_at is not None and taken_at - now > timedelta(seconds=AHEAD_SECONDS)


def ahead_text(taken_at: datetime, now: datetime, which: str = "This") -> str:
    """Return what to know about a point that `is_ahead`."""
    return (
        f"{which} recovery point is dated {span((taken_at - now).total_seconds())} ahead of this "
        "core's clock, so one of the two clocks is wrong and its age is unknown."
    )


def arrange_points(machine_id: UUID, known: Sequence[UUID]) -> int:
    """Number the machine's points by `recovery_store.order`; return how many changed.

    known: ids of points in the order in which they are known to have been taken.
    """
    with transaction.atomic():
        points = {point.pk: point for point in RecoveryPoint.objects.filter(machine=machine_id)}
        links = [
            Link(point.pk, point.parent_id, point.ownership_epoch, point.taken_at)
            for point in points.values()
        ]
        changed = []
        for position, point_id in enumerate(in_order(links, known), start=1):
            if points[point_id].position != position:
                points[point_id].position = position
                changed.append(points[point_id])
        RecoveryPoint.objects.bulk_update(changed, ["position"], batch_size=_BATCH)
    return len(changed)
