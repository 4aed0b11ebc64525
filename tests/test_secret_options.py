"""No command takes a secret as the value of an option: everyone can read the process list."""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("console", "protected_machines", "replication", "recovery_store", "vsphere", "agent")
OTHERS = ("rescue_medium", "lab", "benchmarks")
SECRET = re.compile(r"(?:^|[-_])(?:password|passwd|passphrase|secret|token|code|key)$")


def takes_a_secret(action: argparse.Action) -> bool:
    takes_a_value = action.nargs != 0
    names = action.option_strings or [action.dest]
    return takes_a_value and any(SECRET.search(name) for name in names)


def own_commands() -> list[str]:
    return sorted(name for name, app in get_commands().items() if app.split(".")[0] in ROOMS)


@pytest.mark.parametrize("name", own_commands())
def test_no_management_command_takes_a_secret(name: str) -> None:
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    assert [action.dest for action in parser._actions if takes_a_secret(action)] == []


def added_arguments(path: Path) -> Iterator[str]:
    """Yield the names of all options and arguments that a file adds to a parser."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "add_argument"
        ):
            yield from (str(one.value) for one in node.args if isinstance(one, ast.Constant))


def test_nothing_else_that_is_run_takes_one() -> None:
    files = [path for room in (*ROOMS, *OTHERS) for path in (ROOT / room).rglob("*.py")]
    found = {
        str(path.relative_to(ROOT)): names
        for path in files
        if (names := [name for name in added_arguments(path) if SECRET.search(name)])
    }
    assert found == {}


def test_the_simulator_takes_none() -> None:
    source = (ROOT / "lab/vcsim/main.go").read_text()
    names = re.findall(r'flag\.\w+Var\(&[\w.]+, "([\w-]+)"', source)
    assert "password-file" in names
    # Its key is named by the file that holds it.
    assert [name for name in names if SECRET.search(name)] == ["key"]


def test_what_is_a_secret_and_what_is_not() -> None:
    parser = argparse.ArgumentParser()
    refused = [parser.add_argument(name) for name in ("--password", "--pairing-code", "token")]
    allowed = [
        *(parser.add_argument(name) for name in ("--password-file", "--encode", "--keyboard")),
        parser.add_argument("--code", action="store_true"),
    ]
    assert [takes_a_secret(action) for action in [*refused, *allowed]] == [True] * 3 + [False] * 4
