"""Open this core's recovery-point store. Nothing else knows where it is."""

from django.conf import settings

from protected_machines.own_store import check_own_store, store_path
from recovery_store.store import Store


def open_store() -> Store:
    """Return this core's store, `$UNDERSTUDY_HOME/store`. Cheap; creates nothing on disk.

    It rejects every write while the folder is not this core's store. UNDERSTUDY_STORE_RESERVE_BYTES
    is how much of its file system stays free; with 0, the store decides.
    """
    return Store(
        store_path(),
        reserve_bytes=settings.UNDERSTUDY_STORE_RESERVE_BYTES or None,
        check_identity=check_own_store,
    )
