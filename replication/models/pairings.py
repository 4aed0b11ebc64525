"""Pairings of this core with other cores."""

import datetime
import uuid

from django.db import models
from django.utils import timezone

from agent.home import Home
from console.pace import is_within
from protected_machines.choices import ConnectionState
from replication.choices import Direction

_SEEN_WRITTEN_EVERY_SECONDS = 5
# A source core that called within this time is up, even if this core cannot connect to it.
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
    # Where protected machines reach the peer, as it says itself; empty if that is `host`.
    peer_host_for_machines = models.CharField(max_length=253, blank=True, default="")
    # The secret that this core presents, sealed; the digest of the one that the peer presents.
    sealed_secret = models.TextField()
    peer_secret_digest = models.CharField(max_length=64)
    is_paused = models.BooleanField(default=False)
    is_paused_by_peer = models.BooleanField(default=False)
    connection_state = models.CharField(
        max_length=24, choices=ConnectionState, default=ConnectionState.UNKNOWN
    )
    connection_error = models.TextField(blank=True, default="")
    unreachable_since = models.DateTimeField(null=True, blank=True)
    # When the two cores last talked, in either direction, and when the peer last called this core.
    last_seen_at = models.DateTimeField(null=True, blank=True)
    heard_at = models.DateTimeField(null=True, blank=True)
    # How far the peer's clock is ahead of this core's; negative if behind, null if not known.
    clock_ahead_seconds = models.BigIntegerField(null=True, blank=True)
    # How much of this core's store a source core may fill; null for no limit.
    quota_bytes = models.PositiveBigIntegerField(null=True, blank=True)
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

    def home_of(self, machine_id: uuid.UUID) -> Home:
        """Return where the agent of a machine announces itself to the peer."""
        host = self.peer_host_for_machines or self.host
        return Home(host, self.port, self.peer_certificate_pem, str(machine_id))

    @property
    def is_outgoing(self) -> bool:
        return self.direction == Direction.OUTGOING

    @property
    def is_reachable(self) -> bool:
        """Whether the last call to the peer was answered."""
        return self.connection_state == ConnectionState.ONLINE and not self.connection_error

    def note_seen(self, now: datetime.datetime, *, force: bool = False) -> None:
        """Record that the two cores have just talked; written at most every few seconds."""
        is_fresh = is_within(self.last_seen_at, _SEEN_WRITTEN_EVERY_SECONDS, now)
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
        """Record that the peer has just called this core. Says nothing of calls to the peer."""
        is_fresh = is_within(self.heard_at, _SEEN_WRITTEN_EVERY_SECONDS, now)
        if is_fresh and self.connection_state == ConnectionState.ONLINE:
            return
        self.heard_at = self.last_seen_at = now
        self.connection_state = ConnectionState.ONLINE
        self.unreachable_since = None
        self.save(
            update_fields=["heard_at", "last_seen_at", "connection_state", "unreachable_since"]
        )

    def note_unreachable(self, text: str, now: datetime.datetime) -> None:
        """Record that the peer does not answer; the time of the first failure is kept.

        A source core behind a firewall may still call this core; then it is not unreachable.
        """
        around = datetime.timedelta(seconds=_HEARD_COUNTS_SECONDS)
        heard = Pairing.objects.filter(pk=self.pk, heard_at__range=(now - around, now + around))
        if not self.is_outgoing and heard.exists():
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
