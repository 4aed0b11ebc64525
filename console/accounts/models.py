"""Rows behind sign-in: wrong attempts, and from where each account has signed in."""

from datetime import datetime

from django.db import models


class WrongAttempts(models.Model):
    """Wrong passwords or codes in a row; an empty account or address stands for all of them.

    `account` is a digest, as what is typed there may be a password.
    """

    kind = models.CharField(max_length=16)
    account = models.CharField(max_length=64, blank=True)
    address = models.CharField(max_length=45, blank=True)
    wrong = models.PositiveIntegerField(default=0)
    last_wrong_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "account", "address"], name="one_count_of_wrong_attempts"
            )
        ]

    def __str__(self) -> str:
        return f"{self.wrong} wrong: {self.kind} from {self.address or 'anywhere'}"

    def seconds_since(self, now: datetime) -> float:
        """Return how long ago the last one was; a clock that was set back holds nobody back."""
        return abs((now - self.last_wrong_at).total_seconds())


class KnownAddress(models.Model):
    """An address from which an account has signed in. `account` is the same digest."""

    account = models.CharField(max_length=64)
    address = models.CharField(max_length=45)
    signed_in_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "address"], name="one_row_of_known_address")
        ]

    def __str__(self) -> str:
        return self.address
