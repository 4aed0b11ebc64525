"""Secrets between two cores."""

from datetime import timedelta
from pathlib import Path

import pytest
from pytest_django import Settings

from console.identity import this_core
from replication.peers.credentials import derive_secret, digest_of, is_secret
from tests.places.certificates import dated_certificate


def test_only_the_secret_itself_is_accepted() -> None:
    secret = derive_secret(b"code", this_core().certificate_pem)
    assert is_secret(secret, digest_of(secret))
    assert not is_secret(secret[:-1], digest_of(secret))
    assert not is_secret("", digest_of(secret))


@pytest.mark.parametrize("secret", ["", "anything"])
def test_a_pairing_without_a_digest_lets_nobody_in(secret: str) -> None:
    assert not is_secret(secret, "")


def test_a_secret_is_of_one_code_one_peer_and_one_core(settings: Settings, tmp_path: Path) -> None:
    core_pem = this_core().certificate_pem
    other_pem = dated_certificate(tmp_path, "other", timedelta(0))[0].read_text()
    secrets = {
        derive_secret(b"code", core_pem),
        derive_secret(b"another", core_pem),
        derive_secret(b"code", other_pem),
    }
    assert derive_secret(b"code", core_pem) in secrets
    settings.SECRET_KEY = "of another core"
    secrets.add(derive_secret(b"code", core_pem))
    assert len(secrets) == 4
    assert all(len(secret) == 43 for secret in secrets), "32 bytes, in base64"
