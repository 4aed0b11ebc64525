"""Calls to vSphere within one session, and which of them may be repeated."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from vsphere.api import vim, vmodl
from vsphere.door import Door
from vsphere.faults import BROKEN_CONNECTION, FAILED_CALL, translate
from vsphere.properties import is_signed_in

log = logging.getLogger(__name__)
Result = TypeVar("Result")
SIGN_OUT_SECONDS = 10
MOST_REPEATS = 2  # the connection breaks as the server restarts, which also ends the session


class Calls:
    """A signed-in session. If it expires between two calls, it signs in again."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.stub: Any = None
        self.content: Any = None
        self._operation = ""
        self._sign_in()

    def _sign_in(self) -> None:
        instance, content = self.door.open()
        if self.stub is not None:
            self.stub.DropConnections()
        self.stub, self.content = instance._stub, content
        self.name_operation(self._operation)

    def name_operation(self, operation: str) -> None:
        """Name what further calls are for; the server logs it as their operation ID."""
        self._operation = operation
        self.stub.requestContext = {"operationID": operation} if operation else None

    @contextlib.contextmanager
    def hurrying(self, call_seconds: float, limit_seconds: float) -> Iterator[None]:
        """Limit the wait for each answer, and for all of them together, in a `with` block."""
        patience = self.door.patience
        usual = patience.call_seconds, patience.ends_at_seconds
        patience.call_seconds = min(call_seconds, patience.call_seconds)
        ends_at_seconds = time.monotonic() + limit_seconds
        patience.ends_at_seconds = min(ends_at_seconds, patience.ends_at_seconds or ends_at_seconds)
        try:
            yield
        finally:
            patience.call_seconds, patience.ends_at_seconds = usual

    def sign_out(self) -> None:
        """End the session."""
        try:
            with self.hurrying(SIGN_OUT_SECONDS, SIGN_OUT_SECONDS):
                self.content.sessionManager.Logout()
        finally:
            self.stub.DropConnections()

    def reading(self, doing: str, call: Callable[[Any], Result]) -> Result:
        """Return what `call` reads from the service content it is given."""
        return self.repeating(doing, lambda: call(self.content))

    def repeating(self, doing: str, call: Callable[[], Result]) -> Result:
        """Return what `call` returns. It may happen twice, since it changes nothing then.

        If the session has ended or the connection breaks, `call` is repeated.
        """
        for _ in range(MOST_REPEATS):
            try:
                return call()
            except FAILED_CALL as fault:
                if not self._is_worth_repeating(fault, doing):
                    raise translate(fault, doing) from fault
        try:
            return call()
        except FAILED_CALL as fault:
            raise translate(fault, doing) from fault

    def writing(self, doing: str, call: Callable[[Any], Result]) -> Result:
        """Return what `call` does with the stub it is given.

        It is repeated only if the session had ended, never if the server may have acted.
        """
        try:
            return call(self.stub)
        except vim.fault.NotAuthenticated:
            self._sign_in()
        except FAILED_CALL as fault:
            raise translate(fault, doing) from fault
        try:
            return call(self.stub)
        except FAILED_CALL as fault:
            raise translate(fault, doing) from fault

    def _is_worth_repeating(self, fault: BaseException, doing: str) -> bool:
        """Tell whether a read may succeed if repeated, signing in again if the session ended."""
        if isinstance(fault, BROKEN_CONNECTION):
            log.info("vsphere connection broke, reading again error=%s", fault)
            return not isinstance(fault, TimeoutError)  # the next may take as long
        if isinstance(fault, vim.fault.NotAuthenticated):
            is_over = True
        elif isinstance(fault, vmodl.fault.ManagedObjectNotFound):
            # Collectors, views and leases disappear with the session that made them.
            is_over = not self._is_signed_in(doing)
        else:
            is_over = False
        if is_over:
            log.info("vsphere session ended, signing in again")
            self._sign_in()
        return is_over

    def _is_signed_in(self, doing: str) -> bool:
        try:
            return is_signed_in(self.content)
        except FAILED_CALL as fault:
            raise translate(fault, doing) from fault
