"""A rescue medium says its version and its date itself; other files are told from it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rescue_medium.facts import NotAMedium, read_facts
from tests.places.isos import make_small_iso

ZONE_AT = 32768 + 829


def test_version_date_and_size_are_read_from_the_file(tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    path = make_small_iso(tmp_path / "medium.iso", version="3.2.1-beta")
    facts = read_facts(path)
    assert facts.version == "3.2.1-beta"
    assert facts.size_bytes == path.stat().st_size
    assert before <= facts.built_at <= datetime.now(UTC)


def test_the_date_is_told_in_utc(tmp_path: Path) -> None:
    path = make_small_iso(tmp_path / "medium.iso")
    with path.open("r+b") as file:
        file.seek(ZONE_AT)
        zone = int.from_bytes(file.read(1), "big", signed=True)
        utc = read_facts(path).built_at
        file.seek(ZONE_AT)
        file.write((zone - 14).to_bytes(1, "big", signed=True))
    assert read_facts(path).built_at == utc + timedelta(hours=3, minutes=30)


def test_another_iso_is_refused(tmp_path: Path) -> None:
    path = make_small_iso(tmp_path / "other.iso", volume_id="DEBIAN")
    with pytest.raises(NotAMedium, match=r"other\.iso is not a rescue medium"):
        read_facts(path)


@pytest.mark.parametrize("length_bytes", [0, 32_768, 32_800, 40_000])
def test_a_file_of_zeros_is_refused(tmp_path: Path, length_bytes: int) -> None:
    path = tmp_path / "zeros.iso"
    path.write_bytes(bytes(length_bytes))
    with pytest.raises(NotAMedium, match="not a rescue medium"):
        read_facts(path)


def test_a_medium_without_a_date_is_refused(tmp_path: Path) -> None:
    path = make_small_iso(tmp_path / "medium.iso")
    with path.open("r+b") as file:
        file.seek(32768 + 813)
        file.write(b"0" * 16)
    with pytest.raises(NotAMedium, match="does not say when"):
        read_facts(path)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotAMedium, match=f"{tmp_path} cannot be read"):
        read_facts(tmp_path)
