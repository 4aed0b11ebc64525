"""Open this core's recovery-point store. The one place that knows where it lies."""

from django.conf import settings

from recovery_store import Store


def open_store() -> Store:
    """Return this core's store, `$UNDERSTUDY_HOME/store`. Cheap; makes nothing on disk."""
    return Store(settings.UNDERSTUDY_HOME / "store")
