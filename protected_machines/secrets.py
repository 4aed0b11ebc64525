"""Encrypt passwords that this core must be able to read again, with a key made from SECRET_KEY.

A database copied without the secret key gives none of them away. A changed secret key makes them
unreadable, which is said as such and mended by entering the password again.
"""

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings

from protected_machines.errors import PasswordUnreadable


def _fernet() -> Fernet:
    digest = hashlib.sha256(b"understudy stored passwords:" + settings.SECRET_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(digest))


def encrypt(plain_text: str) -> str:
    """Return the text encrypted and authenticated, fit for a text column."""
    return _fernet().encrypt(plain_text.encode()).decode()


def decrypt(token: str) -> str:
    """Return the text that `encrypt` was given.

    Raises:
        PasswordUnreadable: it was encrypted with another secret key, or altered.
    """
    try:
        return _fernet().decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise PasswordUnreadable(
            "a stored password cannot be decrypted: it was stored under another secret key. "
            "Enter the password again."
        ) from error
