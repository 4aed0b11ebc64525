"""Secrets between two cores: derived, kept and checked.

A core keeps the secret that it presents, sealed with its own key, because it presents it again and
again. Of the secret that the peer presents, it keeps only a digest.
"""

import base64
import hashlib
import hmac

from django.utils.crypto import salted_hmac

from console.identity import fingerprint_of
from console.secrets import SecretUnreadable, decrypt, encrypt
from replication.errors import PairingRefused

# The name of the key for sealed secrets. Never change it.
_PURPOSE = "replication secrets"


def derive_secret(code_key: bytes, peer_certificate_pem: str) -> str:
    """Return the secret that the peer will present, for a pairing by this code.

    It is the same whenever the peer asks again, even at the same moment, so that both cores keep
    the same one. Only this core can derive it; it is too long to be guessed from a plain digest.
    """
    value = code_key + bytes.fromhex(fingerprint_of(peer_certificate_pem))
    derived = salted_hmac("replication secret", value, algorithm="sha256").digest()
    return base64.urlsafe_b64encode(derived).decode().rstrip("=")


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
