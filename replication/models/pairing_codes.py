"""One-time codes by which another core pairs with this one."""

import datetime

from django.db import models
from django.db.models import F
from django.utils import timezone

from agent.proof import MAX_WRONG_TRIES


class PairingCodeQuerySet(models.QuerySet["PairingCode"]):
    """Codes, of which only the newest counts."""

    def find_newest(self) -> "PairingCode | None":
        """Return the newest code, open or not; none if none was ever made."""
        return self.order_by("-pk").first()


class PairingCode(models.Model):
    """A one-time code that was made on this core. The code itself is not kept.

    open → used       (a core proved that it knows the code)
         → void       (too many wrong tries)
         → not used   (its time passed, or a newer code replaced it)

    A used code stays open to the core that used it, which may not have received the answer.
    """

    # What the code's proofs are made with, sealed; empty once a newer code has replaced this one.
    sealed_key = models.TextField()
    made_by = models.CharField(max_length=150, blank=True, default="")
    made_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    wrong_tries = models.PositiveSmallIntegerField(default=0)
    # Who used it (see `PairingRequest.caller`), and its name for people.
    used_by = models.CharField(max_length=150, blank=True, default="")
    used_by_name = models.CharField(max_length=200, blank=True, default="")
    used_at = models.DateTimeField(null=True, blank=True)

    objects = PairingCodeQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"made by {self.made_by} at {self.made_at}"

    @property
    def is_void(self) -> bool:
        return self.used_at is None and self.wrong_tries >= MAX_WRONG_TRIES

    def is_open(self, now: datetime.datetime) -> bool:
        """Return whether a core can still pair by it."""
        is_unused = self.used_at is None and not self.is_void
        return bool(self.sealed_key) and is_unused and now < self.expires_at

    def count_try(self, caller: str, now: datetime.datetime) -> bool:
        """Count a try, as a wrong one, before it is checked; return whether there was one left.

        Atomic, so that no number of simultaneous tries exceeds the limit.
        """
        usable = PairingCode.objects.exclude(sealed_key="").filter(
            pk=self.pk,
            used_by__in=("", caller),
            wrong_tries__lt=MAX_WRONG_TRIES,
            expires_at__gt=now,
        )
        return bool(usable.update(wrong_tries=F("wrong_tries") + 1))

    def use_up(self, caller: str, name: str, now: datetime.datetime) -> bool:
        """Note who proved the code, and that its try was right; false if another was faster."""
        free = PairingCode.objects.filter(pk=self.pk, used_by__in=("", caller))
        return bool(
            free.update(
                used_by=caller, used_by_name=name, used_at=now, wrong_tries=F("wrong_tries") - 1
            )
        )
