"""Places for the tests of the store."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from recovery_store.store import Store

settings.register_profile(
    "store",
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("store")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store", reserve_bytes=0)
