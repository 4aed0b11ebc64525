"""Secrets between two cores: made, kept and checked.

A core keeps the secret that it presents sealed with its own key, because it must present it again,
and only a digest of the one that the peer presents.
"""

import hashlib
import hmac
import secrets

from console.secrets import SecretUnreadable, decrypt, encrypt
from replication.errors import PairingRefused

_SECRET_BYTES = 32
# Names the key of the sealed secrets: never changed.
_PURPOSE = "replication secrets"


def make_secret() -> str:
    """Return a new secret, long enough that a plain digest of it cannot be searched."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def digest_of(secret: str) -> str:
    """Return what a receiver keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_secret(secret: str, digest: str) -> bool:
    """Tell in constant time whether the secret is the one that the digest was made of."""
    return bool(digest) and hmac.compare_digest(digest_of(secret), digest)


def seal(secret: str) -> str:
    """Return the secret encrypted with this core's key."""
    return encrypt(secret, _PURPOSE)


def unseal(sealed: str) -> str:
    """Return the secret again.

    Raises:
        PairingRefused: it was sealed with another key, as after a restored database.
    """
    try:
        return decrypt(sealed, _PURPOSE)
    except SecretUnreadable as error:
        raise PairingRefused(
            "The secret of this pairing was stored under another secret key of this "
            "core. Pair the two cores again."
        ) from error
