"""Settings offer the core's rescue medium: only signed-in users get it, byte for byte."""

import hashlib
import os
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from pytest_django import Settings

from agent.version import VERSION
from console.environment import env_path
from protected_machines.restores.medium import digest_of
from tests.places.isos import make_small_iso

URL = "/rescue-medium/"


@pytest.fixture
def path(tmp_path: Path, settings: Settings) -> Path:
    settings.UNDERSTUDY_RESCUE_MEDIUM = tmp_path / "understudy-rescue.iso"
    return tmp_path / "understudy-rescue.iso"


def section(client: Client) -> str:
    page = client.get("/settings/")
    assert page.status_code == 200
    text = page.content.decode()
    return text.partition('<section class="panel" id="rescue-medium"')[2].partition("</section>")[0]


def test_settings_show_size_version_and_digest(admin_client: Client, path: Path) -> None:
    make_small_iso(path, version=VERSION)
    shown = section(admin_client)
    assert f"understudy-rescue-{VERSION}.iso" in shown
    assert hashlib.sha256(path.read_bytes()).hexdigest() in shown
    assert f'href="{URL}"' in shown
    assert "python" not in shown


def test_a_medium_of_another_version_is_told(admin_client: Client, path: Path) -> None:
    make_small_iso(path, version="0.0.1")
    shown = section(admin_client)
    assert "From another version" in shown
    assert f"-m rescue_medium build --output {path}" in shown
    assert f'href="{URL}"' in shown


def test_without_a_medium_the_command_that_builds_it_is_shown(
    admin_client: Client, path: Path
) -> None:
    shown = section(admin_client)
    assert "no rescue medium yet" in shown
    assert f"-m rescue_medium build --output {path}" in shown
    assert URL not in shown
    assert admin_client.get(URL).status_code == 404


def test_a_file_that_is_no_medium_is_not_offered(admin_client: Client, path: Path) -> None:
    path.write_bytes(b"something else")
    shown = section(admin_client)
    assert f"{path} is not a rescue medium" in shown
    assert f"-m rescue_medium build --output {path}" in shown
    assert URL not in shown
    assert admin_client.get(URL).status_code == 404


def test_the_download_is_the_file(admin_client: Client, path: Path) -> None:
    make_small_iso(path, version="0.1.0")
    answer = admin_client.get(URL)
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(path.stat().st_size)
    wanted = 'attachment; filename="understudy-rescue-0.1.0.iso"'
    assert answer.headers["Content-Disposition"] == wanted
    received = b"".join(answer.streaming_content)
    assert hashlib.sha256(received).hexdigest() == digest_of(path)


def test_nobody_downloads_without_signing_in(client: Client, db: None, path: Path) -> None:
    make_small_iso(path)
    answer = client.get(URL)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/account/login/?next={URL}"


def test_it_cannot_be_posted_to(admin_client: Client, path: Path) -> None:
    make_small_iso(path)
    assert admin_client.post(URL).status_code == 405


def test_the_setting_has_to_be_an_absolute_path(monkeypatch: pytest.MonkeyPatch) -> None:
    default = Path("/home/core/understudy-rescue.iso")
    assert env_path("SOME_MEDIUM", default) == default
    monkeypatch.setenv("SOME_MEDIUM", "/srv/rescue.iso")
    assert env_path("SOME_MEDIUM", default) == Path("/srv/rescue.iso")
    monkeypatch.setenv("SOME_MEDIUM", "rescue.iso")
    with pytest.raises(ImproperlyConfigured, match="SOME_MEDIUM"):
        env_path("SOME_MEDIUM", default)


def test_a_file_that_changed_has_another_digest(path: Path) -> None:
    path.write_bytes(b"first")
    assert digest_of(path) == hashlib.sha256(b"first").hexdigest()
    path.write_bytes(b"later")
    os.utime(path, (1, 1))
    assert digest_of(path) == hashlib.sha256(b"later").hexdigest()
