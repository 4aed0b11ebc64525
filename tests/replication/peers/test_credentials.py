"""Secrets between two cores."""

import pytest

from replication.peers.credentials import digest_of, is_secret, make_secret


def test_only_the_secret_itself_is_accepted() -> None:
    secret = make_secret()
    assert is_secret(secret, digest_of(secret))
    assert not is_secret(make_secret(), digest_of(secret))
    assert not is_secret("", digest_of(secret))


@pytest.mark.parametrize("secret", ["", "anything"])
def test_a_pairing_without_a_digest_lets_nobody_in(secret: str) -> None:
    assert not is_secret(secret, "")


def test_no_two_secrets_are_alike_and_none_can_be_searched() -> None:
    secrets = {make_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(len(secret) >= 43 for secret in secrets), "32 random bytes, in base64"
