"""Points that travel to a target core by hand instead of over the link."""

import datetime
import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone

from replication.choices import SeedDriveState
from replication.models.machines import ReplicatedMachine


class SeedDriveQuerySet(models.QuerySet["SeedDrive"]):
    """Seed drives by state."""

    def outstanding(self) -> "SeedDriveQuerySet":
        return self.filter(state=SeedDriveState.OUTSTANDING)


class SeedDrive(models.Model):
    """A copy of one machine's points for a target core to consume; its ID is the job's.

    state: outstanding → consumed     (the target core holds its newest point)
           outstanding → abandoned    (an administrator abandoned it; the points go over the link)

    While it is outstanding, no points of the machine are sent over the link: newer points build on
    those on the drive.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    replicated = models.ForeignKey(
        ReplicatedMachine, on_delete=models.CASCADE, related_name="seed_drives"
    )
    folder = models.CharField(max_length=1000)
    state = models.CharField(
        max_length=16, choices=SeedDriveState, default=SeedDriveState.OUTSTANDING
    )
    # What is on it; known once everything has been copied.
    newest_point_id = models.UUIDField(null=True, blank=True)
    oldest_at = models.DateTimeField(null=True, blank=True)
    newest_at = models.DateTimeField(null=True, blank=True)
    points = models.PositiveIntegerField(default=0)
    stored_bytes = models.BigIntegerField(default=0)
    requested_by = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = SeedDriveQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["replicated"],
                condition=Q(state=SeedDriveState.OUTSTANDING),
                name="one_outstanding_seed_drive_per_machine",
            )
        ]

    def __str__(self) -> str:
        return f"seed drive {self.id}"

    @property
    def is_copied(self) -> bool:
        return self.newest_point_id is not None

    def end(self, state: SeedDriveState, now: datetime.datetime) -> bool:
        """Mark it as consumed or abandoned; return whether this call did so."""
        ended = SeedDrive.objects.outstanding().filter(pk=self.pk).update(state=state, ended_at=now)
        self.refresh_from_db(fields=["state", "ended_at"])
        return bool(ended)
