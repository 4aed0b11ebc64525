"""Secrets between two cores: made, kept and checked.

A core keeps the secret that it presents sealed with its own key, because it must present it again,
and only a digest of the one that the peer presents.
"""

import base64
import hashlib
import hmac
import secrets

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings

from replication.errors import PairingRefused

_SECRET_BYTES = 32


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
    return _fernet().encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """Return the secret again.

    Raises:
        PairingRefused: it was sealed with another key, as after a restored database.
    """
    try:
        return _fernet().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise PairingRefused(
            "The secret of this pairing was sealed with another key of this core; "
            "pair the two cores again."
        ) from error


def _fernet() -> Fernet:
    key = hashlib.sha256(b"replication secrets:" + settings.SECRET_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))
