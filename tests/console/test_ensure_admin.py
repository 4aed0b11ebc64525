"""`manage.py ensure_admin`: safe to call at every start."""

from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

pytestmark = pytest.mark.django_db


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("first password\n")
    return file


def ensure(file: Path) -> None:
    call_command("ensure_admin", username="admin", password_file=file, verbosity=0)


def test_makes_an_administrator(password_file: Path) -> None:
    ensure(password_file)

    user = get_user_model().objects.get(username="admin")
    assert user.check_password("first password")
    assert user.is_superuser
    assert user.is_active


def test_twice_is_once_and_ends_no_session(password_file: Path) -> None:
    ensure(password_file)
    before = get_user_model().objects.get(username="admin").password

    ensure(password_file)

    assert get_user_model().objects.get(username="admin").password == before


def test_new_password_is_taken_and_a_closed_account_opened(password_file: Path) -> None:
    ensure(password_file)
    get_user_model().objects.update(is_active=False)
    password_file.write_text("second password")

    ensure(password_file)

    user = get_user_model().objects.get(username="admin")
    assert user.check_password("second password")
    assert user.is_active


@pytest.mark.parametrize(("content", "complaint"), [(None, "cannot be read"), ("\n", "is empty")])
def test_bad_file_is_named(tmp_path: Path, content: str | None, complaint: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)

    with pytest.raises(CommandError, match=complaint):
        ensure(file)

    assert not get_user_model().objects.exists()
