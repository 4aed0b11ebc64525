"""Who asks in the tests of the frame's pages."""

from collections.abc import Iterator

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from pytest_django import Settings

from tests.factories import PASSWORD


@pytest.fixture
def admin(db: None, quick_passwords: None) -> User:
    return get_user_model().objects.create_superuser("admin", password=PASSWORD)


@pytest.fixture
def signed_in(admin: User) -> Client:
    client = Client()
    client.force_login(admin)
    return client


@pytest.fixture(autouse=True)
def quick_passwords(settings: Settings) -> None:
    """Hash passwords cheaply; the real hasher takes a good part of a second each."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def no_failed_sign_ins() -> Iterator[None]:
    """Failed sign-ins are counted in the cache; each test starts at none."""
    cache.clear()
    yield
    cache.clear()
