"""Rescue machines that this core has paired with."""

import uuid

from django.db import models
from django.utils import timezone

from agent.client.description import MachineDescription
from protected_machines.models.descriptions import read_description


class RestoreTarget(models.Model):
    """A machine that runs the rescue medium, paired with this core to be restored onto.

    What is on its disks no longer matters: the rescue medium overwrites them.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.CharField(max_length=253)
    port = models.PositiveIntegerField(default=8006)
    agent_certificate_pem = models.TextField()
    # Of the one-time code, so that only someone who knows it may use the pairing again.
    code_digest = models.CharField(max_length=64)
    # How the rescue agent last described it: disks, NICs and firmware.
    description = models.JSONField(default=dict, blank=True)
    paired_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-paired_at"]
        constraints = [
            models.UniqueConstraint(fields=["host", "port"], name="restore_target_address_once")
        ]

    def __str__(self) -> str:
        return self.address

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def described(self) -> MachineDescription:
        """The machine as the rescue agent last described it."""
        return read_description(self.description)
