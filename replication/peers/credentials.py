"""Secrets between two cores: derived, kept and checked.

A core keeps the secret that it presents, sealed with its own key, because it presents it again and
again. Of the secret that the peer presents, it keeps only a digest.
"""

import base64
import hashlib
import hmac
from uuid import UUID

from django.utils.crypto import salted_hmac

from console.identity import fingerprint_of
from console.secrets import SecretUnreadable, decrypt, encrypt
from replication.errors import PairingRefused

# The name of the key for sealed secrets. Never change it.
_PURPOSE = "replication secrets"
_PAIRED = "Understudy"
_FELLOW = "Understudy-Fellow"


def derive_secret(code_key: bytes, peer_certificate_pem: str) -> str:
    """Return the secret that the peer will present, for a pairing by this code.

    It is the same whenever the peer asks again, even at the same moment, so that both cores keep
    the same one. Only this core can derive it; it is too long to be guessed from a plain digest.
    """
    return _derive(
        "replication secret", code_key + bytes.fromhex(fingerprint_of(peer_certificate_pem))
    )


def derive_fellow_secret(asking_core_id: UUID, asked_core_id: UUID) -> str:
    """Return the secret that one target core presents to another; the same each time.

    Only their source core can derive it.
    """
    return _derive("fellow secret", asking_core_id.bytes + asked_core_id.bytes)


def _derive(salt: str, value: bytes) -> str:
    derived = salted_hmac(salt, value, algorithm="sha256").digest()
    return base64.urlsafe_b64encode(derived).decode().rstrip("=")


def digest_of(secret: str) -> str:
    """Return the digest that a receiver keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_secret(secret: str, digest: str) -> bool:
    """Tell, in constant time, whether the secret matches the digest."""
    return bool(digest) and hmac.compare_digest(digest_of(secret), digest)


def show_pairing(pairing_id: UUID, secret: str) -> str:
    """Return the header by which a paired core shows its secret."""
    return f"{_PAIRED} {pairing_id}:{secret}"


def read_pairing(authorization: str) -> tuple[UUID, str] | None:
    """Return the pairing and the secret in such a header; none if it is not one."""
    scheme, _, token = authorization.partition(" ")
    pairing_id, _, secret = token.partition(":")
    try:
        return (UUID(pairing_id), secret) if scheme == _PAIRED else None
    except ValueError:
        return None


def show_fellow(secret: str) -> str:
    """Return the header by which a fellow target core shows its secret."""
    return f"{_FELLOW} {secret}"


def read_fellow(authorization: str) -> str:
    """Return the secret in such a header; empty if it is not one."""
    scheme, _, secret = authorization.partition(" ")
    return secret if scheme == _FELLOW else ""


def seal(secret: str) -> str:
    """Return the secret encrypted with this core's key."""
    return encrypt(secret, _PURPOSE)


def unseal(sealed: str) -> str:
    """Return the plain secret.

    Raises:
        PairingRefused: it was sealed with another key, for example before a database was restored.
    """
    try:
        return decrypt(sealed, _PURPOSE)
    except SecretUnreadable as error:
        raise PairingRefused(
            "The secret of this pairing was encrypted with a different secret key of this "
            "core. Pair the two cores again."
        ) from error
