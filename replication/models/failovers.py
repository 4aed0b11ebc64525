"""Decisions to fail over machines of a lost site."""

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from replication.models.pairings import Pairing


class Failover(models.Model):
    """One decision to fail over machines of a lost site; each machine has its own job.

    It has no state; its jobs do.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    pairing = models.ForeignKey(Pairing, on_delete=models.PROTECT, related_name="failovers")
    # A double click or a repeated POST sends the same ID, and so finds the same failover.
    request_id = models.UUIDField(unique=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True
    )
    reason = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"failover {self.id}"


class FailoverMachine(models.Model):
    """One machine of a failover, with what was chosen for it.

    Its job is the newest in the failover's group whose subject is the machine.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    failover = models.ForeignKey(Failover, on_delete=models.CASCADE, related_name="machines")
    machine = models.ForeignKey(
        "protected_machines.Machine", on_delete=models.PROTECT, related_name="failovers"
    )
    point_id = models.UUIDField()
    point_taken_at = models.DateTimeField()
    # What was chosen, by name, as it was then: vCenter, datastore, VM name and so on.
    chosen: Any = models.JSONField(default=dict)

    class Meta:
        ordering = ["machine__name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["failover", "machine"], name="a_machine_once_per_failover"
            )
        ]

    def __str__(self) -> str:
        return f"{self.machine_id} in {self.failover_id}"
