"""Tells the server every few seconds that an import is alive, on its own thread and stub."""

import logging
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from vsphere.api import vmodl
from vsphere.faults import FAILED_CALL

log = logging.getLogger(__name__)

SHARE_OF_LEASE = 6  # several calls may fail before the lease times out
BOUNDS_SECONDS = (0.2, 20)
JOIN_SECONDS = 5  # a call that hangs does no harm


@dataclass
class KeepAlive:
    """Calls Progress for the length of a `with` block, even while the percentage stays the same.

    lease: the managed object, on a stub that no other thread uses; closed at the end.
    fault: what the server answered when it ended the lease.
    """

    lease: Any
    lease_seconds: float
    percent: int = 0
    fault: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread = field(init=False, repr=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="lease keep-alive", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=JOIN_SECONDS)
        self.lease._stub.DropConnections()

    def _run(self) -> None:
        low, high = BOUNDS_SECONDS
        interval_seconds = min(max(self.lease_seconds / SHARE_OF_LEASE, low), high)
        while not self._stop.is_set():
            try:
                self.lease.HttpNfcLeaseProgress(percent=self.percent)
            except vmodl.MethodFault as fault:
                self.fault = fault
                return
            except FAILED_CALL as error:  # the next call may succeed; the server keeps the time
                log.warning("vsphere keep-alive failed error=%s", error)
            self._stop.wait(interval_seconds)
