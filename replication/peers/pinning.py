"""TLS to a core whose certificate was pinned at pairing.

The certificate itself is compared, byte for byte. Nothing else about it counts: not its dates,
since the clock of either core may be wrong, and not who has signed it, since a core also signs
delegations, which must not let their holder take its place.
"""

import ssl
from typing import Any

from replication.errors import PeerCertificateChanged


class PinnedContext(ssl.SSLContext):
    """A context that accepts one certificate.

    The check is part of the handshake, so no request reaches another server.
    """

    pinned_der: bytes
    peer: str

    def wrap_socket(self, *args: Any, **keywords: Any) -> ssl.SSLSocket:
        """Shake hands, then compare the certificate.

        Raises:
            PeerCertificateChanged: it is not the pinned one.
        """
        wrapped = super().wrap_socket(*args, **keywords)
        if wrapped.getpeercert(binary_form=True) == self.pinned_der:
            return wrapped
        wrapped.close()
        raise PeerCertificateChanged(
            f"{self.peer} shows a different certificate from the one pinned at pairing. If the "
            "core was reinstalled, remove the pairing and pair again."
        )


def pinned_context(certificate_pem: str, peer: str) -> PinnedContext:
    """Return a context for the core with that certificate; `peer` names it in errors."""
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.pinned_der = ssl.PEM_cert_to_DER_cert(certificate_pem)
    context.peer = peer
    return context
