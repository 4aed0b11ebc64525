"""Calls to vSphere within one session, and which of them may be repeated."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from vsphere.api import vim, vmodl
from vsphere.door import Door
from vsphere.faults import BROKEN_CONNECTION, translate

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Calls:
    """A signed-in session. If it expires between two calls, it signs in again."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.stub: Any = None
        self._sign_in()

    def _sign_in(self) -> None:
        instance = self.door.open()
        if self.stub is not None:
            self.stub.DropConnections()
        self.stub = instance._stub
        self.content: Any = instance.RetrieveContent()

    def sign_out(self) -> None:
        """End the session."""
        try:
            self.content.sessionManager.Logout()
        finally:
            self.stub.DropConnections()

    def reading(self, doing: str, call: Callable[[Any], Result]) -> Result:
        """Return what `call` reads from the service content it is given.

        If the session has expired or the connection breaks, `call` is repeated once.
        """
        try:
            return call(self.content)
        except vim.fault.NotAuthenticated:
            log.info("vsphere session expired, signing in again")
            self._sign_in()
        except BROKEN_CONNECTION as error:
            log.info("vsphere connection broke, reading again error=%s", error)
        except vmodl.MethodFault as fault:
            raise translate(fault, doing) from fault
        try:
            return call(self.content)
        except (vmodl.MethodFault, *BROKEN_CONNECTION) as fault:
            raise translate(fault, doing) from fault

    def writing(self, doing: str, call: Callable[[Any], Result]) -> Result:
        """Return what `call` does with the stub it is given.

        It is repeated only if the session had expired, never if the server may have acted.
        """
        try:
            return call(self.stub)
        except vim.fault.NotAuthenticated:
            self._sign_in()
        except (vmodl.MethodFault, *BROKEN_CONNECTION) as fault:
            raise translate(fault, doing) from fault
        try:
            return call(self.stub)
        except (vmodl.MethodFault, *BROKEN_CONNECTION) as fault:
            raise translate(fault, doing) from fault
