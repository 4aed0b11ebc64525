"""Sessions that outlive their use, so that the next one need not sign in again."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from vsphere.door import Credentials, Gate
from vsphere.errors import VSphereError
from vsphere.faults import FAILED_CALL
from vsphere.session import Session, sign_in

log = logging.getLogger(__name__)

IDLE_SECONDS = 300  # servers allow only so many sessions, and end them after half an hour


@dataclass
class _Idle:
    credentials: Credentials
    session: Session
    since_seconds: float  # of the monotonic clock


class SharedSessions:
    """The signed-in sessions of one process.

    A session serves one `with` block at a time: a process that does one thing after the other
    needs only one for each server. One that has ended meanwhile signs in again when it is used.
    """

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._idle: list[_Idle] = []
        self._lock = threading.Lock()
        self._watch: threading.Thread | None = None
        # A child process must not use, and so mix up, the connections of its parent.
        os.register_at_fork(after_in_child=self._forget)

    @contextlib.contextmanager
    def lend(
        self,
        credentials: Credentials,
        timeout_seconds: float = 30,
        *,
        operation: str = "",
        gate: Gate = contextlib.nullcontext,
    ) -> Iterator[Session]:
        """Lend a session for a `with` block.

        operation: names in the server's log what it is for.
        gate: is entered around each sign-in.

        Raises:
            VSphereUnreachable, CertificateChanged, WrongPassword: see `connect`.
        """
        session = self._take(credentials) or sign_in(credentials, timeout_seconds, gate)
        session.calls.door.gate = gate  # the one of the last use is of another caller
        session.calls.name_operation(operation)
        try:
            yield session
        finally:
            self._give_back(credentials, session)

    def end_all(self) -> None:
        """Sign out of the sessions that nobody uses now."""
        self._end(older_than_seconds=0)

    def _take(self, credentials: Credentials) -> Session | None:
        with self._lock:
            for number, idle in enumerate(self._idle):
                if idle.credentials == credentials:
                    return self._idle.pop(number).session
        return None

    def _give_back(self, credentials: Credentials, session: Session) -> None:
        with self._lock:
            self._idle.append(_Idle(credentials, session, time.monotonic()))
            if self._watch is None:
                self._watch = threading.Thread(
                    target=self._end_idle, name="vsphere idle sessions", daemon=True
                )
                self._watch.start()

    def _end_idle(self) -> None:
        """Sign out of what is idle for long; the thread ends once nothing is."""
        while True:
            time.sleep(self._idle_seconds / 2)
            self._end(self._idle_seconds)
            with self._lock:
                if not self._idle:
                    self._watch = None
                    return

    def _end(self, older_than_seconds: float) -> None:
        before_seconds = time.monotonic() - older_than_seconds
        with self._lock:
            ending = [idle for idle in self._idle if idle.since_seconds <= before_seconds]
            self._idle = [idle for idle in self._idle if idle.since_seconds > before_seconds]
        for idle in ending:
            log.info("vsphere idle session ends host=%s", idle.credentials.address)
            with contextlib.suppress(VSphereError, *FAILED_CALL):
                idle.session.calls.sign_out()

    def _forget(self) -> None:
        self._idle, self._lock, self._watch = [], threading.Lock(), None
