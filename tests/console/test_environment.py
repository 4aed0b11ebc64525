"""Settings from the environment: each variable refuses a wrong value by its own name."""

import re
import runpy
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from console import environment, settings

SETTINGS = Path(settings.__file__)
# By the function that reads the variable: a value that it cannot be.
WRONG = {
    "env_bool": "maybe",
    "env_int": "many",
    "env_networks": "10.0.0.1, proxy.example",
    "env_paths": "archives/here",
    "database_from_url": "mysql://here/db",
}


def variables() -> list[tuple[str, str]]:
    """Every variable that the settings read, with a wrong value for it; new ones included."""
    read = re.findall(r'(env_\w+)\(\s*"([A-Z_]+)"', SETTINGS.read_text())
    wrong = [(name, WRONG[reader]) for reader, name in read if reader in WRONG]
    return [*wrong, ("DATABASE_URL", WRONG["database_from_url"])]


def load_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setenv("UNDERSTUDY_HOME", str(home))
    return runpy.run_path(str(SETTINGS))


@pytest.mark.parametrize(("name", "wrong"), variables())
def test_a_wrong_value_is_refused_by_the_variables_name(
    name: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, wrong)
    with pytest.raises(ImproperlyConfigured, match=name):
        load_settings(tmp_path, monkeypatch)


def test_a_secret_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_SECRET_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(ImproperlyConfigured, match=f"UNDERSTUDY_SECRET_KEY: .*{tmp_path}/nowhere"):
        load_settings(tmp_path, monkeypatch)


def test_the_secret_key_comes_from_its_file_and_is_kept_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNDERSTUDY_SECRET_KEY", raising=False)
    first = load_settings(tmp_path / "home", monkeypatch)["SECRET_KEY"]
    assert load_settings(tmp_path / "home", monkeypatch)["SECRET_KEY"] == first
    assert len(str(first)) >= 50
    file = tmp_path / "home" / "secret-key"
    assert file.read_text() == first
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["1", "true", "YES", "on"])
def test_a_yes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSWER", text)
    assert environment.env_bool("ANSWER", False) is True


@pytest.mark.parametrize("text", ["0", "false", "No", "off", ""])
def test_a_no(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSWER", text)
    assert environment.env_bool("ANSWER", True) is False


def test_several_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDERS", f"{tmp_path}/a::{tmp_path}/b/../c")
    assert environment.env_paths("FOLDERS") == [tmp_path / "a", tmp_path / "c"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://core%40dr:p%2Fw@db.example:5433/under%20study",
            {
                "NAME": "under study",
                "USER": "core@dr",
                "PASSWORD": "p/w",
                "HOST": "db.example",
                "PORT": "5433",
            },
        ),
        ("postgres:///understudy", {"NAME": "understudy", "USER": "", "HOST": "", "PORT": ""}),
        ("sqlite:///var/lib/core%201.sqlite3", {"NAME": "/var/lib/core 1.sqlite3"}),
    ],
)
def test_a_database_url(url: str, expected: dict[str, str]) -> None:
    database = environment.database_from_url(url)
    assert {name: database[name] for name in expected} == expected


def test_the_options_of_a_database_url_are_passed_on() -> None:
    url = "postgresql://core:secret@db.example/core?sslmode=verify-full&sslrootcert=/etc/ca.pem"
    options = {"sslmode": "verify-full", "sslrootcert": "/etc/ca.pem"}
    assert environment.database_from_url(url)["OPTIONS"] == options


@pytest.mark.parametrize("url", ["postgresql://db/core?sslmod=require", "sqlite:///core?mode=ro"])
def test_an_option_of_a_database_url_that_is_not_known_is_refused(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL has the option"):
        environment.database_from_url(url)


def test_a_home_that_others_can_read_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    load_settings(home, monkeypatch)
    assert home.stat().st_mode & 0o077 == 0


def test_browsers_keep_to_https_once_it_is_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "SECURE_HSTS_SECONDS" not in load_settings(tmp_path, monkeypatch)
    monkeypatch.setenv("UNDERSTUDY_HTTPS", "1")
    assert load_settings(tmp_path, monkeypatch)["SECURE_HSTS_SECONDS"] == 365 * 24 * 3600
