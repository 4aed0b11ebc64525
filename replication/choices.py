"""The stored words of replication. They are never renamed; a test has the full list."""

from django.db import models


class Direction(models.TextChoices):
    """Which way points flow over a pairing, as seen from this core."""

    OUTGOING = "outgoing", "Outgoing"
    INCOMING = "incoming", "Incoming"


class MachineState(models.TextChoices):
    """The state of a replicated machine. Derived for pages, never stored."""

    REPLICATED = "replicated", "Replicated"
    BEHIND = "behind", "Behind"
    REPLICATING = "replicating", "Replicating"
    PAUSED = "paused", "Paused"
    FAILED = "failed", "Replication failed"
    NOT_STARTED = "not_started", "Nothing sent yet"
    FAILING_OVER = "failing_over", "Failing over"
    FAILED_OVER = "failed_over", "Failed over"
    PENDING_FAILBACK = "pending_failback", "Pending failback"
    RESTORING = "restoring", "Restoring"
    FAILED_BACK = "failed_back", "Failed back, not committed"
    ROLLING_BACK = "rolling_back", "Rolling back"
    UNDOING = "undoing", "Undoing"
    NEEDS_ATTENTION = "needs_attention", "Needs attention"
    OWNED_ELSEWHERE = "owned_elsewhere", "Runs at the other site"
    SEED_DRIVE = "seed_drive", "On a seed drive"
    OWNER_DISPUTED = "owner_disputed", "Owner disputed"
    OWNER_CONTRADICTORY = "owner_contradictory", "Owner contradictory"


class SeedDriveState(models.TextChoices):
    """The state of a seed drive, as seen from the core that made it."""

    OUTSTANDING = "outstanding", "Outstanding"
    CONSUMED = "consumed", "Consumed"
    ABANDONED = "abandoned", "Abandoned"


class FailoverOutcome(models.TextChoices):
    """The outcome of one machine's failover, as its page shows it. Derived, never stored."""

    WAITING = "waiting", "Waiting"
    RUNNING = "running", "Failing over"
    UNWINDING = "unwinding", "Undoing"
    DONE = "done", "Failed over"
    FAILED = "failed", "Not failed over"
    NEEDS_ATTENTION = "needs_attention", "Needs attention"


class FailbackState(models.TextChoices):
    """How far one machine's failback has come: what its jobs alone do not show."""

    UNDER_WAY = "under_way", "Pending failback"
    FAILED_BACK = "failed_back", "Failed back, not committed"
    COMMITTED = "committed", "Committed"
    ROLLED_BACK = "rolled_back", "Rolled back"


class FailbackOutcome(models.TextChoices):
    """The outcome of one machine's failback, as its page shows it. Derived, never stored."""

    WAITING = "waiting", "Waiting"
    PENDING = "pending", "Pending failback"
    RESTORING = "restoring", "Restoring"
    UNWINDING = "unwinding", "Undoing"
    FAILED_BACK = "failed_back", "Failed back, not committed"
    COMMITTING = "committing", "Committing"
    COMMITTED = "committed", "Committed"
    ROLLING_BACK = "rolling_back", "Rolling back"
    ROLLED_BACK = "rolled_back", "Rolled back"
    FAILED = "failed", "Not failed back"
    NEEDS_ATTENTION = "needs_attention", "Needs attention"
