"""The stored words of jobs. They are never renamed: old rows contain them."""

from django.db.models import TextChoices


class JobState(TextChoices):
    QUEUED = "queued", "Waiting"
    RUNNING = "running", "Running"
    UNWINDING = "unwinding", "Undoing"
    SUCCEEDED = "succeeded", "Done"
    FAILED = "failed", "Failed"
    NEEDS_ATTENTION = "needs_attention", "Needs attention"
    HELD = "held", "Held"


class StepState(TextChoices):
    PENDING = "pending", "Not started"
    RUNNING = "running", "Running"
    WAITING = "waiting", "Waiting"
    INTERRUPTED = "interrupted", "Interrupted"
    SUCCEEDED = "succeeded", "Done"
    FAILED = "failed", "Failed"
    UNDOING = "undoing", "Undoing"
    UNDONE = "undone", "Undone"
    UNDO_FAILED = "undo_failed", "Undo failed"


class EventType(TextChoices):
    STARTED = "started", "Started"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    UNDO_STARTED = "undo_started", "Undo started"
    UNDO_FINISHED = "undo_finished", "Undone"
    UNDO_FAILED = "undo_failed", "Undo failed"
    WAITING = "waiting", "Waiting"
    WORKER_LOST = "worker_lost", "Worker lost"
    NOTE = "note", "Note"
    CANCEL_REQUESTED = "cancel_requested", "Cancel requested"
    RETRY_REQUESTED = "retry_requested", "Retry requested"
    UNDO_REQUESTED = "undo_requested", "Undo requested"
    CLOSED = "closed", "Closed by hand"
    HELD = "held", "Held"
    RELEASED = "released", "Released"


class UndoKind(TextChoices):
    """What happens to a finished step when the job is undone."""

    UNDO = "undo", "is undone"
    NOTHING = "nothing", "nothing to undo"
    IRREVERSIBLE = "irreversible", "cannot be undone"


class Queue(TextChoices):
    """`control` is for short work and for failovers, `transfer` for bulk copies."""

    CONTROL = "control", "Control"
    TRANSFER = "transfer", "Transfer"


# Those that a worker may take; a held job is open too, and waits for a person.
RUNNABLE = (JobState.QUEUED, JobState.RUNNING, JobState.UNWINDING)
OPEN = (*RUNNABLE, JobState.HELD)
TERMINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.NEEDS_ATTENTION)
# Nothing goes on until a person decides.
STUCK = (JobState.NEEDS_ATTENTION, JobState.HELD)
