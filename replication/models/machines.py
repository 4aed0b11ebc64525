"""The machines that are replicated over pairings."""

import datetime
import uuid
from typing import Any

from django.db import models
from django.utils import timezone

from protected_machines.choices import ConnectionState
from protected_machines.models.points import RecoveryPoint, is_ahead, position_of
from replication.choices import Direction, SeedDriveState
from replication.models.pairings import Pairing

_FIRST_RETRY_SECONDS = 15
_LAST_RETRY_SECONDS = 600


class ReplicatedMachineQuerySet(models.QuerySet["ReplicatedMachine"]):
    """Replicated machines by direction and by what is due."""

    def outgoing(self) -> "ReplicatedMachineQuerySet":
        return self.filter(pairing__direction=Direction.OUTGOING)

    def incoming(self) -> "ReplicatedMachineQuerySet":
        return self.filter(pairing__direction=Direction.INCOMING)

    def due(self, now: datetime.datetime) -> "ReplicatedMachineQuerySet":
        """Those whose points may be sent now.

        Nothing is paused, the wait after a failure is over, and no seed drive is outstanding. A
        longer wait than any that is ever set is from before the clock went back.
        """
        longest = datetime.timedelta(seconds=_LAST_RETRY_SECONDS)
        return (
            self.outgoing()
            .filter(
                is_paused=False,
                is_paused_by_peer=False,
                pairing__is_paused=False,
                pairing__is_paused_by_peer=False,
            )
            .exclude(
                pairing__connection_state__in=[
                    ConnectionState.UNREACHABLE,
                    ConnectionState.AUTHENTICATION_ERROR,
                ]
            )
            .exclude(seed_drives__state=SeedDriveState.OUTSTANDING)
            .exclude(next_attempt_at__gt=now, next_attempt_at__lte=now + longest)
        )


class ReplicatedMachine(models.Model):
    """One machine on one pairing, and how far its receiver has got; both cores have such a row.

    It repeats some facts about recovery points, so that pages with thousands of machines do not
    have to count points.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    pairing = models.ForeignKey(Pairing, on_delete=models.CASCADE, related_name="machines")
    machine = models.ForeignKey(
        "protected_machines.Machine", on_delete=models.CASCADE, related_name="replications"
    )
    is_paused = models.BooleanField(default=False)
    is_paused_by_peer = models.BooleanField(default=False)
    # At a target core: the other targets that the machine is replicated to, by its source core.
    fellow_core_ids: Any = models.JSONField(default=list, blank=True)
    # When the machine's agent was told to answer the target core too.
    trusted_at = models.DateTimeField(null=True, blank=True)
    # The newest complete point on the receiving core, and when it arrived.
    last_point_id = models.UUIDField(null=True, blank=True)
    last_point_at = models.DateTimeField(null=True, blank=True)
    last_synced_at = models.DateTimeField(null=True, blank=True)
    # The newest point that the sending core holds.
    newest_point_at = models.DateTimeField(null=True, blank=True)
    behind_points = models.PositiveIntegerField(default=0)
    behind_bytes = models.BigIntegerField(default=0)
    error_code = models.CharField(max_length=60, blank=True, default="")
    error_text = models.TextField(blank=True, default="")
    failed_attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ReplicatedMachineQuerySet.as_manager()

    class Meta:
        ordering = ["machine__name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["pairing", "machine"], name="a_machine_once_per_pairing"
            )
        ]

    def __str__(self) -> str:
        return f"{self.machine_id} on {self.pairing_id}"

    def other_target_ids(self) -> list[uuid.UUID]:
        """Return the other target cores that this core, as the source, replicates it to."""
        others = ReplicatedMachine.objects.outgoing().exclude(pairing_id=self.pairing_id)
        found = others.filter(machine_id=self.machine_id)
        return list(found.values_list("pairing__peer_core_id", flat=True))

    @property
    def is_paused_anywhere(self) -> bool:
        """Whether either core has paused the machine, or all of the pairing."""
        pairing = self.pairing
        return (
            self.is_paused
            or self.is_paused_by_peer
            or pairing.is_paused
            or pairing.is_paused_by_peer
        )

    @property
    def behind_seconds(self) -> float:
        """How much newer the sender's newest point is than the receiver's.

        A point dated ahead of now says nothing about that.
        """
        if self.newest_point_at is None or self.last_point_at is None:
            return 0.0
        if is_ahead(self.newest_point_at, timezone.now()):
            return 0.0
        return max(0.0, (self.newest_point_at - self.last_point_at).total_seconds())

    def set_paused(self, is_paused: bool) -> bool:
        """Pause or resume this machine on this side; return whether that changed anything."""
        changed = (
            ReplicatedMachine.objects.filter(pk=self.pk)
            .exclude(is_paused=is_paused)
            .update(is_paused=is_paused)
        )
        self.is_paused = is_paused
        return bool(changed)

    def note_trusted(self, now: datetime.datetime) -> None:
        """Record that the machine's agent answers the target core too."""
        self.trusted_at = now
        self.save(update_fields=["trusted_at"])

    def note_synced(
        self, point_id: str, taken_at: datetime.datetime, now: datetime.datetime
    ) -> None:
        """Record the newest point that the receiver holds; an older one changes nothing."""
        if self.last_point_at is not None and self._holds_newer_than(point_id):
            return
        self.last_point_id = uuid.UUID(str(point_id))
        self.last_point_at = taken_at
        self.last_synced_at = now
        if self.newest_point_at is None or self.newest_point_at < taken_at:
            self.newest_point_at = taken_at
        self._clear_trouble()
        self.save(
            update_fields=[
                "last_point_id",
                "last_point_at",
                "last_synced_at",
                "newest_point_at",
                *_TROUBLE_FIELDS,
            ]
        )

    def _holds_newer_than(self, point_id: str) -> bool:
        """Whether the newest point that the receiver is known to hold comes after this one."""
        points = RecoveryPoint.objects.filter(machine=self.machine_id)
        last = position_of(self.machine_id, self.last_point_id, self.last_point_at)
        return points.filter(pk=point_id, position__lt=last).exists()

    def note_up_to_date(self, now: datetime.datetime) -> None:
        """Record that the receiver lacks nothing, even if nothing had to be sent."""
        self.last_synced_at = now
        self._clear_trouble()
        self.save(update_fields=["last_synced_at", *_TROUBLE_FIELDS])

    def note_failed(self, code: str, text: str, now: datetime.datetime) -> None:
        """Record a failed attempt, and when the next one may start: later each time."""
        self.failed_attempts += 1
        rest_seconds = min(
            _FIRST_RETRY_SECONDS * 2 ** (self.failed_attempts - 1), _LAST_RETRY_SECONDS
        )
        self.error_code = code
        self.error_text = text
        self.next_attempt_at = now + datetime.timedelta(seconds=rest_seconds)
        self.save(update_fields=_TROUBLE_FIELDS)

    def _clear_trouble(self) -> None:
        self.error_code = ""
        self.error_text = ""
        self.failed_attempts = 0
        self.next_attempt_at = None


_TROUBLE_FIELDS = ["error_code", "error_text", "failed_attempts", "next_attempt_at"]
