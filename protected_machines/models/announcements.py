"""Where machines said that they are when they started, and where people said that they are."""

from django.db import models

from console.jobs.models import Job
from protected_machines.models.machines import Machine


class Announcement(models.Model):
    """What a machine's agent announced after a start, by its pinned certificate.

    It proves nothing but that the machine, or a copy of it, runs: a core uses an address only once
    the agent has answered there. A few of the newest starts are kept, since the machine may run
    besides a copy of it.
    """

    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="announcements")
    boot_id = models.CharField(max_length=200)
    # Where it may answer, the likeliest first.
    addresses = models.JSONField(default=list)
    port = models.PositiveIntegerField()
    first_heard_at = models.DateTimeField()
    heard_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["machine", "boot_id"], name="announcement_once_a_boot")
        ]

    def __str__(self) -> str:
        return f"{self.machine_id}, {self.boot_id}, {', '.join(self.addresses)}"


class TypedAddress(models.Model):
    """Where a person said that a job finds its machine. The agent still has to answer there."""

    job = models.OneToOneField(Job, on_delete=models.CASCADE, related_name="+")
    host = models.CharField(max_length=253)
    port = models.PositiveIntegerField()
    typed_by = models.CharField(max_length=150)
    typed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
