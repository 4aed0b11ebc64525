"""Encrypt what this core must be able to read again, with keys made from SECRET_KEY.

A database copied without the secret key gives nothing away. Under another secret key the stored
texts are unreadable, and whoever stored them says what to enter again.
"""

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings


class SecretUnreadable(Exception):
    """A stored text was encrypted under another secret key or for another purpose, or altered."""


def encrypt(plain_text: str, purpose: str) -> str:
    """Return the text encrypted and authenticated, fit for a text column.

    purpose: what the text is for. Each purpose has a key of its own, so it is never changed.
    """
    return _fernet(purpose).encrypt(plain_text.encode()).decode()


def decrypt(token: str, purpose: str) -> str:
    """Return the text that `encrypt` was given for the same purpose.

    Raises:
        SecretUnreadable: another secret key, another purpose, or an altered token.
    """
    try:
        return _fernet(purpose).decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise SecretUnreadable(f"cannot decrypt a stored text, purpose={purpose}") from error


def _fernet(purpose: str) -> Fernet:
    key = hashlib.sha256(f"{purpose}:{settings.SECRET_KEY}".encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))
