"""The list of important lines is true: each stands where it says, once."""

from pathlib import Path

import pytest

from tests.mutants.lines import MUTANTS
from tests.mutants.mutant import ROOT


def test_a_hundred_lines_are_listed() -> None:
    assert len(MUTANTS) >= 100
    assert len({(one.file, one.before, one.after) for one in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("file", sorted({one.file for one in MUTANTS}))
def test_each_line_stands_once_in_its_file(file: str) -> None:
    text = (ROOT / file).read_text()
    for mutant in MUTANTS:
        if mutant.file == file:
            compile(mutant.apply(text), file, "exec")


def test_the_tests_that_have_to_notice_are_there() -> None:
    named = {path for one in MUTANTS for path in one.tests.split()}
    assert [path for path in sorted(named) if not Path(ROOT, path).exists()] == []
