"""Pairings of this core with others, the machines that flow over them, and failovers."""

import datetime
import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from replication.choices import ConnectionState, Direction, FailbackState

_FIRST_RETRY_SECONDS = 15
_LAST_RETRY_SECONDS = 600
_SEEN_WRITTEN_EVERY_SECONDS = 5
# A source core that called within this time is there, even where this core cannot dial it.
_HEARD_COUNTS_SECONDS = 30


class PairingQuerySet(models.QuerySet["Pairing"]):
    """Pairings by direction and state."""

    def outgoing(self) -> "PairingQuerySet":
        return self.filter(direction=Direction.OUTGOING)

    def incoming(self) -> "PairingQuerySet":
        return self.filter(direction=Direction.INCOMING)


class Pairing(models.Model):
    """One direction of replication between this core and another; both cores use the same id.

    connection_state: unknown → online ⇄ unreachable, online ⇄ authentication_error
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    direction = models.CharField(max_length=10, choices=Direction)
    peer_core_id = models.UUIDField()
    peer_name = models.CharField(max_length=200)
    host = models.CharField(max_length=253)
    port = models.PositiveIntegerField()
    peer_certificate_pem = models.TextField()
    # What this core presents to the peer, sealed; and the digest of what the peer presents here.
    sealed_secret = models.TextField()
    peer_secret_digest = models.CharField(max_length=64)
    is_paused = models.BooleanField(default=False)
    is_paused_by_peer = models.BooleanField(default=False)
    connection_state = models.CharField(
        max_length=24, choices=ConnectionState, default=ConnectionState.UNKNOWN
    )
    connection_error = models.TextField(blank=True, default="")
    unreachable_since = models.DateTimeField(null=True, blank=True)
    # When the two cores last spoke, whoever began; and when the peer last called this core.
    last_seen_at = models.DateTimeField(null=True, blank=True)
    heard_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PairingQuerySet.as_manager()

    class Meta:
        ordering = ["peer_name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["peer_core_id", "direction"], name="one_pairing_per_core_and_direction"
            )
        ]

    def __str__(self) -> str:
        return f"{self.peer_name} ({self.direction})"

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_outgoing(self) -> bool:
        return self.direction == Direction.OUTGOING

    @property
    def is_reachable(self) -> bool:
        return self.connection_state == ConnectionState.ONLINE

    def note_seen(self, now: datetime.datetime, *, force: bool = False) -> None:
        """Record that the two cores have just spoken; written at most every few seconds."""
        recent = now - datetime.timedelta(seconds=_SEEN_WRITTEN_EVERY_SECONDS)
        is_fresh = self.last_seen_at is not None and self.last_seen_at > recent
        if is_fresh and self.is_reachable and not force:
            return
        self.last_seen_at = now
        self.connection_state = ConnectionState.ONLINE
        self.connection_error = ""
        self.unreachable_since = None
        self.save(
            update_fields=[
                "last_seen_at",
                "connection_state",
                "connection_error",
                "unreachable_since",
            ]
        )

    def note_heard(self, now: datetime.datetime) -> None:
        """Record that the peer has just called this core."""
        recent = now - datetime.timedelta(seconds=_SEEN_WRITTEN_EVERY_SECONDS)
        if self.heard_at is None or self.heard_at < recent:
            Pairing.objects.filter(pk=self.pk).update(heard_at=now)
            self.heard_at = now
        self.note_seen(now)

    def note_unreachable(self, text: str, now: datetime.datetime) -> None:
        """Record that the peer does not answer; the time of the first silence is kept.

        A source core behind a wall that lets nothing in still calls: that one is reachable.
        """
        since = now - datetime.timedelta(seconds=_HEARD_COUNTS_SECONDS)
        if not self.is_outgoing and Pairing.objects.filter(pk=self.pk, heard_at__gt=since).exists():
            self.connection_error = text
            self.save(update_fields=["connection_error"])
            return
        self._note_trouble(ConnectionState.UNREACHABLE, text, now)

    def note_authentication_error(self, text: str, now: datetime.datetime) -> None:
        """Record that one core no longer accepts the other."""
        self._note_trouble(ConnectionState.AUTHENTICATION_ERROR, text, now)

    def _note_trouble(self, state: str, text: str, now: datetime.datetime) -> None:
        self.connection_state = state
        self.connection_error = text
        self.unreachable_since = self.unreachable_since or now
        self.save(update_fields=["connection_state", "connection_error", "unreachable_since"])

    def set_paused(self, is_paused: bool) -> bool:
        """Pause or resume this side; return whether that changed anything."""
        changed = (
            Pairing.objects.filter(pk=self.pk)
            .exclude(is_paused=is_paused)
            .update(is_paused=is_paused)
        )
        self.is_paused = is_paused
        return bool(changed)


class ReplicatedMachineQuerySet(models.QuerySet["ReplicatedMachine"]):
    """Replicated machines by direction and by what is due."""

    def outgoing(self) -> "ReplicatedMachineQuerySet":
        return self.filter(pairing__direction=Direction.OUTGOING)

    def incoming(self) -> "ReplicatedMachineQuerySet":
        return self.filter(pairing__direction=Direction.INCOMING)

    def due(self, now: datetime.datetime) -> "ReplicatedMachineQuerySet":
        """Those whose points may be sent now: nobody paused, and a failure has had its rest."""
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
            .filter(Q(next_attempt_at=None) | Q(next_attempt_at__lte=now))
        )


class ReplicatedMachine(models.Model):
    """One machine on one pairing, with where the receiver stands; the same on both cores.

    What it repeats of the recovery points is kept so that pages with thousands of machines need
    not count points.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    pairing = models.ForeignKey(Pairing, on_delete=models.CASCADE, related_name="machines")
    machine = models.ForeignKey(
        "protected_machines.Machine", on_delete=models.CASCADE, related_name="replications"
    )
    is_paused = models.BooleanField(default=False)
    is_paused_by_peer = models.BooleanField(default=False)
    # When the machine's agent was told to answer the target core too.
    trusted_at = models.DateTimeField(null=True, blank=True)
    # The newest point that the receiving core holds whole, and when it had it.
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

    @property
    def behind_seconds(self) -> float:
        """How much newer the sender's newest point is than the receiver's."""
        if self.newest_point_at is None or self.last_point_at is None:
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
        if self.last_point_at is not None and taken_at < self.last_point_at:
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

    def note_up_to_date(self, now: datetime.datetime) -> None:
        """Record that sender and receiver agree, though nothing had to be sent."""
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


class ArrivingPoint(models.Model):
    """A point that a source core has begun to send and that is not whole yet."""

    id = models.UUIDField(primary_key=True, editable=False)
    machine = models.ForeignKey("protected_machines.Machine", on_delete=models.CASCADE)
    pairing = models.ForeignKey(Pairing, on_delete=models.CASCADE)
    manifest = models.BinaryField()
    begun_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"arriving point {self.id}"


class Failover(models.Model):
    """One decision to run machines of a lost site here; each machine has a job of its own.

    It has no state: how it stands is what its jobs say.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    pairing = models.ForeignKey(Pairing, on_delete=models.PROTECT, related_name="failovers")
    # A double click or a repeated post brings the same id, and so finds the same failover.
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

    Its job is the newest of the failover's group whose subject is the machine.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    failover = models.ForeignKey(Failover, on_delete=models.CASCADE, related_name="machines")
    machine = models.ForeignKey(
        "protected_machines.Machine", on_delete=models.PROTECT, related_name="failovers"
    )
    point_id = models.UUIDField()
    point_taken_at = models.DateTimeField()
    # What was chosen, in words, as it was at that time: vCenter, datastore, VM name and so on.
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


class Failback(models.Model):
    """One decision to bring machines back to their source core; each has a job of its own."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    pairing = models.ForeignKey(Pairing, on_delete=models.PROTECT, related_name="failbacks")
    # A double click or a repeated post brings the same id, and so finds the same failback.
    request_id = models.UUIDField(unique=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True
    )
    reason = models.TextField(blank=True, default="")
    # After so many days a failback that nobody rolled back is committed by itself.
    commit_days = models.PositiveSmallIntegerField(default=7)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"failback {self.id}"


class FailbackMachine(models.Model):
    """One machine of a failback: what it is restored onto, and how far it has come.

    under_way → failed_back → committed │ rolled_back; under_way → rolled_back

    Its jobs are those of the failback's group whose subject is the machine: the failback itself,
    then the commit or the roll back. One whose failback job was undone stays under_way.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    failback = models.ForeignKey(Failback, on_delete=models.CASCADE, related_name="machines")
    machine = models.ForeignKey(
        "protected_machines.Machine", on_delete=models.PROTECT, related_name="failbacks"
    )
    # The rescue machine: its id on the source core, and its address.
    target_id = models.UUIDField()
    target_host = models.CharField(max_length=253)
    target_port = models.PositiveIntegerField(default=8006)
    # What was said before it began: bytes, seconds, and the disks that are overwritten.
    quote: Any = models.JSONField(default=dict)
    # The VM at this site: vCenter, marker, name, and where the machine answered in it.
    vm: Any = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=20, choices=FailbackState, default=FailbackState.UNDER_WAY)
    failed_back_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["machine__name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["failback", "machine"], name="a_machine_once_per_failback"
            ),
            models.CheckConstraint(
                condition=Q(state__in=FailbackState.values), name="failback_state_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.machine_id} in {self.failback_id}"

    @property
    def commit_at(self) -> datetime.datetime | None:
        """When it is committed by itself; none as long as it has not failed back."""
        if self.failed_back_at is None:
            return None
        return self.failed_back_at + datetime.timedelta(days=self.failback.commit_days)

    def move(self, before: FailbackState, after: FailbackState, **changes: Any) -> bool:
        """Change the state by compare-and-set; return whether this call did it."""
        won = FailbackMachine.objects.filter(pk=self.pk, state=before).update(
            state=after, **changes
        )
        return bool(won)
