"""What may be lost, and how long a recovery may take: set by people."""

from django.db import models


class RecoveryObjective(models.Model):
    """The objectives of a source core, for all its machines, or of one machine.

    None: the default, or for a machine, that of its core.
    """

    # Of the core or the machine; it may be gone.
    subject_id = models.UUIDField(primary_key=True, editable=False)
    point_seconds = models.PositiveIntegerField(null=True, blank=True)
    recovery_seconds = models.PositiveIntegerField(null=True, blank=True)

    def __str__(self) -> str:
        return f"objectives of {self.subject_id}"
