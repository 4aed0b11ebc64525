"""Decisions to fail machines back to their source core."""

import datetime
import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from replication.choices import FailbackState
from replication.models.pairings import Pairing


class Failback(models.Model):
    """One decision to fail machines back to their source core; each machine has its own job."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    pairing = models.ForeignKey(Pairing, on_delete=models.PROTECT, related_name="failbacks")
    # A double click or a repeated POST sends the same ID, and so finds the same failback.
    request_id = models.UUIDField(unique=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True
    )
    reason = models.TextField(blank=True, default="")
    # After this many days, a failback that nobody rolled back is committed automatically; null:
    # never, since the commit removes the VM, which is the way back.
    commit_days = models.PositiveSmallIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"failback {self.id}"


class FailbackMachine(models.Model):
    """One machine of a failback: what it is restored onto, and how far it has come.

    under_way → failed_back → committed │ rolled_back; under_way → rolled_back

    Its jobs are those in the failback's group whose subject is the machine: the failback itself,
    then the commit or the roll back. If the failback job is undone, the state stays under_way.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    failback = models.ForeignKey(Failback, on_delete=models.CASCADE, related_name="machines")
    machine = models.ForeignKey(
        "protected_machines.Machine", on_delete=models.PROTECT, related_name="failbacks"
    )
    # The rescue machine: its ID on the source core, and its address.
    rescue_id = models.UUIDField()
    rescue_host = models.CharField(max_length=253)
    rescue_port = models.PositiveIntegerField(default=8006)
    # The estimate shown at the start: bytes, seconds, and the disks that are overwritten.
    quote: Any = models.JSONField(default=dict)
    # The VM at this site: vCenter, marker, name, and the address of the machine in it.
    vm: Any = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=20, choices=FailbackState, default=FailbackState.UNDER_WAY)
    failed_back_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["machine__name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["failback", "machine"], name="a_machine_once_per_failback"
            ),
            models.CheckConstraint(
                condition=Q(state__in=FailbackState.values), name="failback_state_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.machine_id} in {self.failback_id}"

    @property
    def commit_at(self) -> datetime.datetime | None:
        """When it is committed automatically; none if someone has to commit it, or not yet."""
        days = self.failback.commit_days
        if self.failed_back_at is None or days is None:
            return None
        return self.failed_back_at + datetime.timedelta(days=days)

    def move(self, before: FailbackState, after: FailbackState, **changes: Any) -> bool:
        """Change the state by compare-and-set; return whether this call changed it."""
        won = FailbackMachine.objects.filter(pk=self.pk, state=before).update(
            state=after, **changes
        )
        return bool(won)
