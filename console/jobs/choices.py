"""The stored words of jobs. Chosen once and never renamed: rows of years ago carry them."""

from django.db.models import TextChoices


class JobState(TextChoices):
    QUEUED = "queued", "Waiting"
    RUNNING = "running", "Running"
    UNWINDING = "unwinding", "Rolling back"
    SUCCEEDED = "succeeded", "Done"
    FAILED = "failed", "Failed"
    NEEDS_ATTENTION = "needs_attention", "Needs attention"


class StepState(TextChoices):
    PENDING = "pending", "Not started"
    RUNNING = "running", "Running"
    WAITING = "waiting", "Waiting"
    INTERRUPTED = "interrupted", "Interrupted"
    SUCCEEDED = "succeeded", "Done"
    FAILED = "failed", "Failed"
    UNDOING = "undoing", "Rolling back"
    UNDONE = "undone", "Rolled back"
    UNDO_FAILED = "undo_failed", "Rolling back failed"


class EventType(TextChoices):
    STARTED = "started", "Started"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    UNDO_STARTED = "undo_started", "Rolling back started"
    UNDO_FINISHED = "undo_finished", "Rolled back"
    UNDO_FAILED = "undo_failed", "Rolling back failed"
    WAITING = "waiting", "Waiting"
    WORKER_LOST = "worker_lost", "Worker lost"
    NOTE = "note", "Note"
    CANCEL_REQUESTED = "cancel_requested", "Cancel requested"
    RETRY_REQUESTED = "retry_requested", "Retry requested"
    UNDO_REQUESTED = "undo_requested", "Rolling back requested"
    CLOSED = "closed", "Closed by hand"


class UndoKind(TextChoices):
    """What becomes of a finished step when the job is rolled back."""

    UNDO = "undo", "is rolled back"
    NOTHING = "nothing", "nothing to roll back"
    IRREVERSIBLE = "irreversible", "cannot be undone"


class Queue(TextChoices):
    """`control` is for short work and for failovers, `transfer` for bulk copies."""

    CONTROL = "control", "Control"
    TRANSFER = "transfer", "Transfer"


OPEN = (JobState.QUEUED, JobState.RUNNING, JobState.UNWINDING)
TERMINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.NEEDS_ATTENTION)
