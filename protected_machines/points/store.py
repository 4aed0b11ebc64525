"""Open this core's recovery-point store. The one place that knows where it lies."""

from django.conf import settings

from recovery_store.store import Store


def open_store() -> Store:
    """Return this core's store, `$UNDERSTUDY_HOME/store`. Cheap; makes nothing on disk.

    UNDERSTUDY_STORE_RESERVE_BYTES says how much of its file system stays free; 0 leaves that to
    the store.
    """
    return Store(
        settings.UNDERSTUDY_HOME / "store",
        reserve_bytes=settings.UNDERSTUDY_STORE_RESERVE_BYTES or None,
    )
