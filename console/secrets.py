"""Encrypt secrets that this core must be able to read again, with keys derived from SECRET_KEY.

A database copied without the secret key gives nothing away. With another secret key, the stored
texts are unreadable, and callers say what to enter again.
"""

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings


class SecretUnreadable(Exception):
    """A stored text was altered, or encrypted with another secret key or for another purpose."""


def encrypt(plain_text: str, purpose: str) -> str:
    """Return the text, encrypted and authenticated, in a form that fits a text column.

    purpose: what the text is for. Each purpose has its own key, so never change it.
    """
    return _fernet(purpose).encrypt(plain_text.encode()).decode()


def decrypt(token: str, purpose: str) -> str:
    """Return the text that was encrypted for the same purpose.

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
