"""Exports are checked by the console's own program and by the stand-alone script alike."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from console.audit.__main__ import main
from tests.console.audit.exports import export_lines, make_entries, write_lines

SCRIPT = Path(__file__).resolve().parents[3] / "docs" / "check_audit.py"
Check = Callable[..., tuple[int, str]]


@pytest.fixture(params=["console.audit", "check_audit.py"])
def check(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Check:
    """Check an export; return the exit code and the output."""

    def by_program(path: Path, head: str = "") -> tuple[int, str]:
        return main(["check", str(path), *(["--head", head] if head else [])]), (
            capsys.readouterr().out
        )

    def by_script(path: Path, head: str = "") -> tuple[int, str]:
        command = [sys.executable, "-I", str(SCRIPT), str(path), *([head] if head else [])]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        return run.returncode, run.stdout

    return by_program if request.param == "console.audit" else by_script


@pytest.fixture
def lines(db: None) -> list[str]:
    make_entries(4, reason="Zoë said “yes”\u2028\n\t\\")
    return export_lines()


def altered(line: str, **facts: object) -> str:
    return json.dumps({**json.loads(line), **facts})


def test_whole_export_is_whole(check: Check, lines: list[str], tmp_path: Path) -> None:
    head = json.loads(lines[-1])["digest"]

    code, output = check(write_lines(tmp_path / "log", lines))

    assert code == 0
    assert f"Whole: 4 entries, head digest {head}" in output


def test_empty_log_is_whole(check: Check, db: None, tmp_path: Path) -> None:
    assert check(write_lines(tmp_path / "log", export_lines()))[0] == 0


def test_head_digest_that_was_noted_earlier_is_found(
    check: Check, lines: list[str], tmp_path: Path
) -> None:
    earlier = json.loads(lines[2])["digest"]

    code, output = check(write_lines(tmp_path / "log", lines), earlier)

    assert code == 0
    assert "The given head digest is that of entry 2." in output


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda lines: lines[:2] + lines[3:], "ntry 2 is missing"),
        (lambda lines: lines[:1] + lines[2:], "ntry 1 is missing"),
        (lambda lines: [*lines[:2], lines[3], lines[2], lines[4]], "ntry 2 is missing"),
        (lambda lines: lines[:-1], "the end is missing or was altered"),
        (
            lambda lines: [*lines[:3], altered(lines[3], reason="another"), lines[4]],
            "ntry 3 was altered",
        ),
        (
            lambda lines: [*lines[:3], altered(lines[3], previous_digest="0" * 64), lines[4]],
            "ntry 3 does not follow",
        ),
        (lambda lines: [*lines[:4], lines[4][:40]], "NOT WHOLE"),
        (lambda lines: [*lines[:4], "[]"], "NOT WHOLE"),
        (lambda lines: lines[1:], "no export of an audit log"),
        (lambda lines: [], "no export of an audit log"),
        (lambda lines: [altered(lines[0], is_whole=False), *lines[1:]], "filtered export"),
    ],
    ids=[
        "an entry cut out",
        "the first cut out",
        "two exchanged",
        "the last cut off",
        "edited",
        "chained again",
        "cut within a line",
        "not an entry",
        "without its first line",
        "empty",
        "filtered",
    ],
)
def test_damaged_export_is_not_whole(
    check: Check,
    lines: list[str],
    tmp_path: Path,
    damage: Callable[[list[str]], list[str]],
    says: str,
) -> None:
    code, output = check(write_lines(tmp_path / "log", damage(lines)))

    assert code == 1
    assert says in output


def test_missing_end_shows_by_a_head_digest_that_a_person_gives(
    check: Check, lines: list[str], tmp_path: Path
) -> None:
    noted = json.loads(lines[-1])["digest"]
    last = json.loads(lines[-2])
    forged = altered(lines[0], entries=3, head_digest=last["digest"])
    path = write_lines(tmp_path / "log", [forged, *lines[1:-1]])

    assert check(path)[0] == 0
    code, output = check(path, noted)

    assert code == 1
    assert "o entry has the given head digest" in output


def test_file_that_cannot_be_read_is_another_failure(check: Check, tmp_path: Path) -> None:
    assert check(tmp_path / "none")[0] == 2


def test_script_fits_a_page_and_needs_only_the_standard_library() -> None:
    text = SCRIPT.read_text()

    assert len(text.splitlines()) <= 60
    imports = [line for line in text.splitlines() if line.startswith(("import", "from"))]
    assert imports == ["import hashlib", "import json", "import sys"]
