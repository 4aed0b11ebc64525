"""Where an archive may be, as a person types it."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from console.environment import env_paths
from protected_machines.archives.folder import (
    FolderSurvey,
    check_archive_to_read,
    check_new_archive,
    survey_folder,
)


def codes(text: str | Path, needed_bytes: int = 0) -> list[str]:
    findings = check_new_archive(survey_folder(str(text)), needed_bytes)
    return [finding.code for finding in findings if finding.severity == "error"]


def test_an_empty_folder_and_one_to_be_made_will_do(tmp_path: Path) -> None:
    assert codes(tmp_path) == []
    assert codes(tmp_path / "new") == []
    assert codes(f"  {tmp_path}/new  ") == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["archive", "./archive", "../archive", "~/archive"])
def test_a_relative_path_is_refused(text: str) -> None:
    assert codes(text) == ["ARCHIVE-PATH-RELATIVE"]


def test_this_core_s_own_files_are_out_of_bounds(core_home: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(core_home)
    for path in (core_home, core_home / "store", core_home / "x", core_home.parent, link / "store"):
        assert codes(path) == ["ARCHIVE-PATH-OF-THIS-CORE"], path


@pytest.mark.parametrize("name", ["static", "static/new", "console", ""])
def test_what_this_core_runs_and_serves_is_out_of_bounds(name: str, settings: Settings) -> None:
    assert codes(settings.BASE_DIR / name) == ["ARCHIVE-PATH-OF-THIS-CORE"]


@pytest.mark.parametrize("path", ["/etc/cron.d", "/usr/share/x", "/lib/x", "/var/www", "/dev/shm"])
def test_a_folder_of_the_system_is_no_place_for_an_archive(path: str, settings: Settings) -> None:
    assert codes(path) == ["ARCHIVE-PATH-NOT-ALLOWED"]
    settings.UNDERSTUDY_ARCHIVE_ROOTS = [Path("/etc").resolve()]
    assert (codes(path) == ["ARCHIVE-PATH-NOT-ALLOWED"]) == (not path.startswith("/etc"))


def test_roots_keep_archives_where_disks_are(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "media").mkdir()
    settings.UNDERSTUDY_ARCHIVE_ROOTS = [tmp_path / "media"]
    assert codes(tmp_path / "media" / "usb") == []
    assert codes(tmp_path / "other") == ["ARCHIVE-PATH-NOT-ALLOWED"]
    assert codes(tmp_path / "media" / ".." / "other") == ["ARCHIVE-PATH-NOT-ALLOWED"]


def test_what_is_missing_or_no_folder_is_said(tmp_path: Path) -> None:
    assert codes(tmp_path / "not" / "there") == ["ARCHIVE-PATH-MISSING"]
    file = tmp_path / "file"
    file.touch()
    assert codes(file) == ["ARCHIVE-PATH-NO-FOLDER"]
    assert codes(file / "below") == ["ARCHIVE-PATH-MISSING"]
    assert codes("/" + "x" * 300) == ["ARCHIVE-NOT-READABLE"]
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert codes(loop) == ["ARCHIVE-NOT-READABLE"]


def test_a_folder_with_other_things_is_refused_but_a_new_one_in_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert codes(tmp_path) == []
    (tmp_path / "photos").mkdir()
    (finding,) = check_new_archive(survey_folder(str(tmp_path)), 0)
    assert finding.code == "ARCHIVE-FOLDER-IN-USE"
    assert "photos" in finding.text
    assert str(tmp_path / "archive") in finding.text
    assert codes(tmp_path / "archive") == []


def test_too_small_and_not_writable_are_said_before_anything_starts(tmp_path: Path) -> None:
    assert codes(tmp_path, 1 << 60) == ["ARCHIVE-TOO-SMALL"]
    survey = FolderSurvey(tmp_path, has_parent=True, is_there=True, is_folder=True, free_bytes=1)
    assert [each.code for each in check_new_archive(survey, 0)] == ["ARCHIVE-NOT-WRITABLE"]


def test_the_disk_of_the_store_is_a_warning(tmp_path: Path) -> None:
    survey = FolderSurvey(
        tmp_path,
        has_parent=True,
        is_writable=True,
        free_bytes=9,
        is_on_the_disk_of_the_store=True,
    )
    (finding,) = check_new_archive(survey, 0)
    assert (finding.code, finding.severity) == ("ARCHIVE-SAME-DISK", "warning")


def test_only_an_archive_can_be_read(tmp_path: Path) -> None:
    (finding,) = check_archive_to_read(survey_folder(str(tmp_path)))
    assert finding.code == "ARCHIVE-NONE-THERE"
    (tmp_path / "machines").mkdir()
    assert check_archive_to_read(survey_folder(str(tmp_path))) == []


def test_the_setting_wants_absolute_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PATHS", "/mnt:/media/")
    assert env_paths("SOME_PATHS") == [Path("/mnt"), Path("/media")]
    monkeypatch.setenv("SOME_PATHS", "mnt")
    with pytest.raises(ImproperlyConfigured, match="SOME_PATHS"):
        env_paths("SOME_PATHS")
    monkeypatch.delenv("SOME_PATHS")
    assert env_paths("SOME_PATHS") == []
