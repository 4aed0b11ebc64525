"""What this core stores encrypted, and whether it opens again."""

from typing import Any

import pytest

from console.secrets import SecretUnreadable, decrypt, encrypt
from protected_machines.models import VCenter
from replication.peers.credentials import unseal

# Stored under the key "the key of that time" before both kinds of secret had one module.
STORED_PASSWORD = (
    "gAAAAABpVbkABwcHBwcHBwcHBwcHBwcHBxdAJUPZdRyu0RJGXh2R8ETIeXMzBqwpEc4r3zsoPgRqVRvHZxDc3igf9-k8"
    "CuD9Uw=="
)
SEALED_SECRET = (
    "gAAAAABpVbkABwcHBwcHBwcHBwcHBwcHB3pmkrz6Zau2V8TCvGdIkm04JHDsJBEZXdp5ftpVPs8Yb94irRl2UOfrmlq9"
    "GmCAkg=="
)


@pytest.fixture(autouse=True)
def _key_of_that_time(settings: Any) -> None:
    settings.SECRET_KEY = "the key of that time"


def test_what_is_stored_in_existing_databases_opens() -> None:
    assert VCenter(password_encrypted=STORED_PASSWORD).password == "correct horse"
    assert unseal(SEALED_SECRET) == "presented there"


def test_a_text_opens_for_its_own_purpose_only() -> None:
    token = encrypt("correct horse", "one")

    assert decrypt(token, "one") == "correct horse"
    with pytest.raises(SecretUnreadable):
        decrypt(token, "another")


def test_an_altered_text_does_not_open() -> None:
    token = encrypt("correct horse", "one")

    with pytest.raises(SecretUnreadable):
        decrypt(token[:40] + ("A" if token[40] != "A" else "B") + token[41:], "one")
