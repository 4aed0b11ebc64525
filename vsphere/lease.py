"""The lease of an import, which the server holds open while disks are sent.

A lease belongs to the session that opened it. When either ends, the server drops its files, so
nothing here is retried.
"""

import http.client
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vsphere.api import vim, vmodl
from vsphere.calls import Calls
from vsphere.errors import (
    DatastoreFull,
    LeaseLost,
    SessionLost,
    UploadRefused,
    VSphereError,
    VSphereFault,
)
from vsphere.faults import (
    BROKEN_CONNECTION,
    FAILED_CALL,
    UNSUPPORTED,
    UnknownAnswer,
    describe,
    translate,
)
from vsphere.keep_alive import KeepAlive
from vsphere.properties import read, watch

log = logging.getLogger(__name__)

READY_SECONDS = 300
USUAL_SECONDS = 300
PAUSES_SECONDS = (0.2, 2, 5)  # between repeats, for a server that restarts its front
ALREADY_OVER = (vmodl.fault.ManagedObjectNotFound, vim.fault.InvalidState)
BOUNDS_SECONDS = (1, 600)  # limits to what the server may claim


@dataclass
class Lease:
    """An HttpNfcLease.

    lease_seconds: how long the server keeps it without hearing from the client.
    """

    calls: Calls
    doing: str
    managed: Any
    lease_seconds: float = USUAL_SECONDS
    is_complete: bool = False

    def wait_until_ready(self, check_cancel: Callable[[], None]) -> Any:
        """Return the lease's info: the machine, and an upload address for each disk."""
        managed, content = self.managed, self.calls.content

        def wait() -> Any:
            seen = watch(
                content,
                {managed: ("state", "error")},
                lambda seen: str(seen[managed].get("state")) in ("ready", "error", "done"),
                doing=self.doing,
                limit_seconds=READY_SECONDS,
                check_cancel=check_cancel,
            )
            if str(seen[managed]["state"]) == "error":
                raise self._error_of(seen[managed].get("error"))
            return read(content, managed, ("info",))["info"]

        try:
            info = self._repeating(wait)
        except FAILED_CALL as fault:
            raise self.translate(fault) from fault
        low, high = BOUNDS_SECONDS
        self.lease_seconds = min(max(info.leaseTimeout, low), high)
        return info

    def keep_alive(self) -> KeepAlive:
        """Return a context manager that keeps the lease alive."""
        stub = self.calls.door.second_stub(self.calls.stub)
        return KeepAlive(vim.HttpNfcLease(self.managed._moId, stub), self.lease_seconds)

    def translate(self, fault: BaseException) -> VSphereError:
        """Return our error for a failed call on the lease."""
        if isinstance(fault, vim.fault.NotAuthenticated):
            return SessionLost(
                f"{self.doing}: the session ended, and an import cannot continue in another. "
                "Try again."
            )
        if isinstance(fault, (vmodl.fault.ManagedObjectNotFound, vim.fault.Timedout)):
            return LeaseLost(
                f"{self.doing}: the server ended the import ({describe(fault)}). Try again. If it "
                "persists, check the host's load and network."
            )
        return translate(fault, self.doing)

    def _error_of(self, fault: Any) -> VSphereError:
        """Return our error for the one that the lease itself reports."""
        if fault is None:
            return LeaseLost(
                f"{self.doing}: the server ended the import without giving a reason. Try again."
            )
        if isinstance(fault, vim.fault.Timedout):
            return self.translate(fault)
        error = translate(fault, self.doing)
        if isinstance(error, VSphereFault):
            return LeaseLost(f"{self.doing}: the server ended the import ({describe(fault)}).")
        return error

    def reason(self, error: VSphereError) -> VSphereError:
        """Return the server's reason for ending the lease if it gives one, else `error`."""
        status = error.status if isinstance(error, UploadRefused) else 0
        if status == http.client.BAD_REQUEST:
            return error
        try:
            of = read(self.calls.content, self.managed, ("state", "error"))
        except FAILED_CALL:
            return error
        fault = of.get("error")
        if str(of.get("state")) != "error" or fault is None:
            return error
        told = self._error_of(fault)
        is_consequence = status in (http.client.NOT_FOUND, http.client.SERVICE_UNAVAILABLE)
        says_more = isinstance(told, DatastoreFull) or isinstance(fault, vim.fault.Timedout)
        return told if is_consequence or says_more else error

    def manifest(self) -> dict[str, Any]:
        """Return what the host received, by disk key; {} if it cannot say."""
        try:
            entries = self._repeating(self.managed.HttpNfcLeaseGetManifest) or []
        except UNSUPPORTED:
            return {}
        except UnknownAnswer as error:
            log.warning("vsphere manifest unreadable doing=%s error=%s", self.doing, error)
            return {}
        except FAILED_CALL as fault:
            raise self.translate(fault) from fault
        return {entry.key: entry for entry in entries}

    def complete(self) -> None:
        """Finish the import and end the lease; the machine becomes usable if it exists then.

        If the connection breaks or the answer makes no sense, the server may have finished. Only
        the machine itself can tell, so that is no error.
        """
        is_sure = True
        try:
            self.managed.HttpNfcLeaseComplete()
        except (UnknownAnswer, *BROKEN_CONNECTION) as error:
            log.warning("vsphere completion unanswered doing=%s error=%s", self.doing, error)
            is_sure = False
        except FAILED_CALL as fault:
            raise self.translate(fault) from fault
        if not is_sure:
            self._complete_again()
        self.is_complete = True

    def _complete_again(self) -> None:
        try:
            self._repeating(self.managed.HttpNfcLeaseComplete)
        except ALREADY_OVER as fault:
            log.info("vsphere lease over doing=%s answer=%s", self.doing, describe(fault))
        except FAILED_CALL as fault:
            raise self.translate(fault) from fault

    def _repeating(self, call: Callable[[], Any]) -> Any:
        """Call again, on a new connection, if the connection breaks; the lease outlives it."""
        for pause_seconds in PAUSES_SECONDS:
            try:
                return call()
            except TimeoutError:  # the next may take as long
                raise
            except BROKEN_CONNECTION as error:
                log.info("vsphere lease call broke doing=%s error=%s", self.doing, error)
                time.sleep(pause_seconds)
        return call()

    def abort(self) -> None:
        """End the lease early, unless it is complete; the server removes machine and files."""
        if self.is_complete:
            return
        lease_id = self.managed._moId
        try:
            self.calls.writing(
                self.doing, lambda stub: vim.HttpNfcLease(lease_id, stub).HttpNfcLeaseAbort()
            )
        except VSphereError as problem:  # already over
            log.info("vsphere abort doing=%s answer=%s", self.doing, problem)
