"""Credentials, and signing in with them."""

import contextlib
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsphere.api import vim
from vsphere.faults import FAILED_CALL, translate
from vsphere.stub import Patience, Stub
from vsphere.tls import authority_context, pinned_context
from vsphere.versions import negotiate

LONGEST_CALL_SECONDS = 60
# Faults are quoted, so they are to be in the language of the pages, whatever the account prefers.
LOCALE = "en_US"


@dataclass(frozen=True)
class Credentials:
    """A vSphere's address and account. Without a thumbprint, its authority must be trusted."""

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    thumbprint: str | None = None
    ca_path: Path | str | None = None

    def tls_context(self) -> ssl.SSLContext:
        """Return the TLS context for every connection to this server."""
        if self.thumbprint:
            return pinned_context([self.thumbprint])
        return authority_context(self.ca_path)

    @property
    def address(self) -> str:
        """Return host and port for messages."""
        return f"{self.host}:{self.port}"


# Entered around each sign-in, also one after an expiry; it may refuse, and sees how it went.
Gate = Callable[[], AbstractContextManager[object]]


class Door:
    """Opens sessions with one set of credentials, the first one and those after an expiry."""

    def __init__(
        self,
        credentials: Credentials,
        timeout_seconds: float,
        gate: Gate = contextlib.nullcontext,
    ) -> None:
        self.credentials = credentials
        self.gate = gate
        self.context = credentials.tls_context()
        self.timeout_seconds = timeout_seconds
        self.patience = Patience(max(timeout_seconds, LONGEST_CALL_SECONDS))
        self._version: str | None = None

    def open(self) -> tuple[Any, Any]:
        """Sign in and return the service instance and its content.

        Raises:
            VSphereUnreachable, CertificateChanged, WrongPassword
        """
        with self.gate():
            return self._open()

    def _open(self) -> tuple[Any, Any]:
        doing = f"Sign in to {self.credentials.address} as {self.credentials.username}"
        stub = None
        try:
            stub = self._first_stub()
            instance = vim.ServiceInstance("ServiceInstance", stub)
            instance.RetrieveContent().sessionManager.Login(
                userName=self.credentials.username,
                password=self.credentials.password,
                locale=LOCALE,
            )
            content = instance.RetrieveContent()
        except FAILED_CALL as fault:
            if stub is not None:
                stub.DropConnections()
            raise translate(fault, doing) from fault
        return instance, content

    def second_stub(self, first: Any) -> Any:
        """Return a stub in the same session as `first`, for use in another thread."""
        stub = self._stub(first.version)
        stub.cookie = first.cookie
        return stub

    def _first_stub(self) -> Any:
        if self._version is None:
            self._version = negotiate(
                self.credentials.host, self.credentials.port, self.context, self.timeout_seconds
            )
        return self._stub(self._version)

    def _stub(self, version: str) -> Any:
        return Stub(
            host=self.credentials.host,
            port=self.credentials.port,
            version=version,
            sslContext=self.context,
            patience=self.patience,
        )
