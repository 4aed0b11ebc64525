"""What DR status was on each day."""

from django.db import models

from console.readiness import ReadinessState


class StatusDay(models.Model):
    """The worst that DR status found of one machine on one day, by the calendar of this core."""

    machine = models.ForeignKey(
        "protected_machines.Machine", on_delete=models.CASCADE, related_name="status_days"
    )
    day = models.DateField()
    state = models.CharField(
        max_length=20, choices=[(state.value, state.label) for state in ReadinessState]
    )
    # The most data at risk, by time; null if it was never known that day.
    loss_seconds = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["day", "machine"]
        constraints = [
            models.UniqueConstraint(fields=["machine", "day"], name="one_status_of_a_machine_a_day")
        ]
        indexes = [models.Index(fields=["day", "state"], name="status_by_day")]

    def __str__(self) -> str:
        return f"{self.machine_id} on {self.day}"
