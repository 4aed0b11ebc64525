"""Other target cores of the same source core."""

import datetime
import uuid

from django.db import models

from replication.models.pairings import Pairing

# A fellow that was asked within this time is not asked again for a page.
_ASKED_RECENTLY_SECONDS = 5


class FellowCore(models.Model):
    """Another core to which the source core of a pairing replicates machines of that pairing.

    The source core introduces the two to each other, so that each can ask the other which machines
    it has failed over. They are not paired, and nothing else passes between them.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    pairing = models.ForeignKey(Pairing, on_delete=models.CASCADE, related_name="fellows")
    core_id = models.UUIDField()
    name = models.CharField(max_length=200)
    host = models.CharField(max_length=253)
    port = models.PositiveIntegerField()
    certificate_pem = models.TextField()
    # The secret that this core presents, sealed; the digest of the one that the fellow presents.
    sealed_secret = models.TextField()
    secret_digest = models.CharField(max_length=64)
    asked_at = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    # Why the last question was not answered; empty if it was.
    error_text = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["pairing", "core_id"], name="one_row_per_pairing_and_fellow"
            )
        ]
        indexes = [models.Index(fields=["secret_digest"], name="fellow_by_secret_digest")]

    def __str__(self) -> str:
        return self.name

    @property
    def silence_text(self) -> str:
        """Why it did not answer the last question; empty if it did."""
        if self.error_text or self.answered_at is not None:
            return self.error_text
        return "It has not been asked yet."

    def is_asked_recently(self, now: datetime.datetime) -> bool:
        """Tell whether the last answer is fresh enough for a page; by either sign of the clock."""
        if self.asked_at is None:
            return False
        return abs((now - self.asked_at).total_seconds()) < _ASKED_RECENTLY_SECONDS
