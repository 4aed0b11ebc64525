"""Open this core's recovery-point store. Nothing else knows where it is."""

from django.conf import settings

from recovery_store.store import Store


def open_store() -> Store:
    """Return this core's store, `$UNDERSTUDY_HOME/store`. Cheap; creates nothing on disk.

    UNDERSTUDY_STORE_RESERVE_BYTES is how much of its file system stays free; with 0, the store
    decides.
    """
    return Store(
        settings.UNDERSTUDY_HOME / "store",
        reserve_bytes=settings.UNDERSTUDY_STORE_RESERVE_BYTES or None,
    )
