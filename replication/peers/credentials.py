"""Secrets between two cores: made, kept and checked.

A core keeps the secret that it presents, sealed with its own key, because it presents it again and
again. Of the secret that the peer presents, it keeps only a digest.
"""

import hashlib
import hmac
import secrets

from console.secrets import SecretUnreadable, decrypt, encrypt
from replication.errors import PairingRefused

_SECRET_BYTES = 32
# The name of the key for sealed secrets. Never change it.
_PURPOSE = "replication secrets"


def make_secret() -> str:
    """Return a new secret, long enough that it cannot be guessed from a plain digest."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def digest_of(secret: str) -> str:
    """Return the digest that a receiver keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_secret(secret: str, digest: str) -> bool:
    """Tell, in constant time, whether the secret matches the digest."""
    return bool(digest) and hmac.compare_digest(digest_of(secret), digest)


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
