"""Who is at the other end of a connection, as the handshake has shown.

The front ends TLS. It hands the caller's certificate on with the connection itself, where no header
that a caller sends can take its place.
"""

import socket

from django.http import HttpRequest


class CallerSocket(socket.socket):
    """The inner end of a connection. `certificate_der` is empty for a caller that showed none."""

    certificate_der = b""

    @classmethod
    def taking(cls, inner: socket.socket, certificate_der: bytes) -> "CallerSocket":
        """Take over a socket for a caller with that certificate."""
        taken = cls(fileno=inner.detach())
        taken.certificate_der = certificate_der
        return taken


def certificate_of(request: HttpRequest) -> bytes:
    """Return the certificate whose key the caller has, in DER; empty if it showed none."""
    return getattr(request.META.get("gunicorn.socket"), "certificate_der", b"")
