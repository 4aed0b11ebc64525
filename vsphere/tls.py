"""TLS to vCenter and hosts, trusting an authority or a pinned certificate."""

import hashlib
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.reasons import reason_of
from vsphere.errors import CertificateChanged, ThumbprintUnusable, VSphereUnreachable

HEX_DIGITS = frozenset("0123456789abcdef")
DIGEST_BY_LENGTH = {40: "sha1", 64: "sha256", 128: "sha512"}


def plain_thumbprint(thumbprint: str) -> str:
    """Return a thumbprint as lower-case hex without colons."""
    return thumbprint.replace(":", "").replace(" ", "").lower()


class PinnedContext(ssl.SSLContext):
    """A context that accepts only certificates with the given thumbprints.

    The check is part of the handshake, so no request reaches another server.
    """

    thumbprints: frozenset[str]

    def wrap_socket(self, *args: Any, **keywords: Any) -> ssl.SSLSocket:
        """Shake hands, then compare the certificate; raise CertificateChanged if it differs."""
        wrapped = super().wrap_socket(*args, **keywords)
        certificate = wrapped.getpeercert(binary_form=True) or b""
        for thumbprint in self.thumbprints:
            name = DIGEST_BY_LENGTH.get(len(thumbprint))
            if name and hashlib.new(name, certificate).hexdigest() == thumbprint:
                return wrapped
        address = "the server"
        try:
            address = "{}:{}".format(*wrapped.getpeername()[:2])
        finally:
            wrapped.close()
        raise CertificateChanged(
            f"Connect to {address}: its certificate has the SHA-256 thumbprint "
            f"{format_thumbprint(certificate)}, which is not the accepted one. If the certificate "
            "was replaced on purpose, accept the new one. Otherwise someone may be intercepting "
            "the connection."
        )


def pinned_context(thumbprints: Iterable[str]) -> PinnedContext:
    """Return a context for servers with one of `thumbprints` (SHA-1, SHA-256 or SHA-512).

    Raises:
        ThumbprintUnusable: one of them is no such digest, so nothing could ever match it.
    """
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.thumbprints = frozenset(plain_thumbprint(thumbprint) for thumbprint in thumbprints)
    for plain in context.thumbprints:
        if len(plain) not in DIGEST_BY_LENGTH or not set(plain) <= HEX_DIGITS:
            raise ThumbprintUnusable(
                f"Compare a certificate: {plain!r} is no thumbprint, which is the SHA-1, SHA-256 "
                "or SHA-512 of a certificate in hexadecimal digits. Correct it."
            )
    return context


def authority_context(ca_path: Path | str | None) -> ssl.SSLContext:
    """Return a context that trusts the authorities in `ca_path`, or the system's."""
    return ssl.create_default_context(cafile=str(ca_path) if ca_path else None)


def format_thumbprint(certificate: bytes) -> str:
    """Return the SHA-256 thumbprint of a DER certificate, upper case with colons."""
    return ":".join(f"{byte:02X}" for byte in hashlib.sha256(certificate).digest())


def fetch_thumbprint(host: str, port: int = 443, timeout_seconds: float = 15) -> str:
    """Return the SHA-256 thumbprint of a server's current certificate.

    Nothing is verified: a person must compare it with what the server's own console shows.

    Raises:
        VSphereUnreachable: nothing there speaks TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_seconds) as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            return format_thumbprint(wrapped.getpeercert(binary_form=True) or b"")
    except OSError as error:
        raise VSphereUnreachable(
            f"Read the certificate of {host}:{port}: {reason_of(error)}. Check address, port and "
            "network."
        ) from error
