"""Stored words are never renamed: rows of years ago carry them."""

from console.jobs.choices import OPEN, TERMINAL, EventType, JobState, Queue, StepState, UndoKind


def test_the_stored_words_are_these() -> None:
    assert JobState.values == [
        "queued",
        "running",
        "unwinding",
        "succeeded",
        "failed",
        "needs_attention",
        "held",
    ]
    assert StepState.values == [
        "pending",
        "running",
        "waiting",
        "interrupted",
        "succeeded",
        "failed",
        "undoing",
        "undone",
        "undo_failed",
    ]
    assert EventType.values == [
        "started",
        "succeeded",
        "failed",
        "undo_started",
        "undo_finished",
        "undo_failed",
        "waiting",
        "worker_lost",
        "note",
        "cancel_requested",
        "retry_requested",
        "undo_requested",
        "closed",
        "held",
        "released",
    ]
    assert UndoKind.values == ["undo", "nothing", "irreversible"]
    assert Queue.values == ["control", "transfer"]


def test_a_state_is_open_or_terminal() -> None:
    assert set(OPEN) | set(TERMINAL) == set(JobState)
    assert not set(OPEN) & set(TERMINAL)
