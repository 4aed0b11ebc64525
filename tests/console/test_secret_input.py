"""Commands read secrets from files, or from whoever runs them."""

import io
from pathlib import Path

import pytest
from django.core.management import CommandError

from console.secret_input import read_secret


def test_a_file_holds_it_on_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("correct horse\nsomething else\n")
    assert read_secret("Password", file) == "correct horse"


def test_each_call_takes_the_next_line_of_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("first\nsecond"))
    assert [read_secret("Code"), read_secret("Code")] == ["first", "second"]
    with pytest.raises(CommandError, match="Code: standard input is empty"):
        read_secret("Code")


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "cannot be read"), (b"\n", "is empty"), (b"\xff", "cannot be")]
)
def test_a_file_without_one_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CommandError, match=f"Password: {file} {reason}"):
        read_secret("Password", file)
