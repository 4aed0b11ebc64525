"""Rows of users: their roles; wrong attempts, and from where each account has signed in."""

import uuid
from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models

from console.accounts.roles import Role


class GivenRole(models.Model):
    """The role of a user who is not an administrator: those are Django's superusers."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="given_role"
    )
    role = models.CharField(max_length=32, choices=Role.choices)

    def __str__(self) -> str:
        return self.get_role_display()


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Which links still open something."""

    def open(self, now: datetime) -> Self:
        return self.filter(used_at=None, expires_at__gt=now)


class Invitation(models.Model):
    """A one-time link: for someone new, or with `user`, for a user to choose a new password.

    Only a digest of what the link contains is stored.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    digest = models.CharField(max_length=64, unique=True)
    # Of whom it is for: a proposal for someone new.
    name = models.CharField(max_length=150)
    role = models.CharField(max_length=32, choices=Role.choices, blank=True)
    # Whom it is for, or who came of it.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["made_at", "id"]

    def __str__(self) -> str:
        return f"for {self.name}"


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
