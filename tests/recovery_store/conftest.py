"""Places for the tests of the store."""

from pathlib import Path

import pytest

from recovery_store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store", reserve_bytes=0)
