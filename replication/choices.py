"""The stored words of replication. Chosen once, never renamed; a test holds the full list."""

from django.db import models


class Direction(models.TextChoices):
    """Which way the points of a pairing flow, seen from this core."""

    OUTGOING = "outgoing", "Outgoing"
    INCOMING = "incoming", "Incoming"


class ConnectionState(models.TextChoices):
    """What this core knows of its way to a peer."""

    UNKNOWN = "unknown", "Not seen yet"
    ONLINE = "online", "Online"
    UNREACHABLE = "unreachable", "Unreachable"
    AUTHENTICATION_ERROR = "authentication_error", "Authentication error"


class MachineState(models.TextChoices):
    """How a replicated machine stands. Derived for the page, never stored."""

    REPLICATED = "replicated", "Replicated"
    BEHIND = "behind", "Behind"
    REPLICATING = "replicating", "Replicating"
    PAUSED = "paused", "Paused"
    FAILED = "failed", "Replication failed"
    NOT_STARTED = "not_started", "Nothing sent yet"
    FAILING_OVER = "failing_over", "Failing over"
    FAILED_OVER = "failed_over", "Failed over"
    NEEDS_ATTENTION = "needs_attention", "Needs attention"
    OWNED_ELSEWHERE = "owned_elsewhere", "Runs at the other site"


class FailoverOutcome(models.TextChoices):
    """How one machine's failover stands, in the words of its page."""

    WAITING = "waiting", "Waiting"
    RUNNING = "running", "Failing over"
    UNWINDING = "unwinding", "Rolling back"
    DONE = "done", "Failed over"
    FAILED = "failed", "Not failed over"
    NEEDS_ATTENTION = "needs_attention", "Needs attention"
