"""The stored words: chosen once, never renamed. Rows of years ago carry them."""

from replication import choices


def test_the_stored_words_are_these() -> None:
    assert choices.Direction.values == ["outgoing", "incoming"]
    assert choices.SeedDriveState.values == ["outstanding", "consumed", "abandoned"]
