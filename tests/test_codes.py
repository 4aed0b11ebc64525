"""Every error code is documented, and some test names it or the class that bears it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("agent", "console", "protected_machines", "recovery_store", "replication", "vsphere")
CODE = re.compile(r"[A-Z]{2,}(-[A-Z]+)+")


def sources() -> Iterator[ast.Module]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.name != "testing.py":
                yield ast.parse(path.read_text())


def classes() -> list[tuple[str, str, set[str]]]:
    """Each class that bears a code of its own: its name, the code, the names of its bases."""
    found = []
    for tree in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef):
                continue
            for line in node.body:
                match line:
                    case ast.Assign(
                        targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))
                    ):
                        bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                        found.append((node.name, code, bases))
    return found


def codes() -> dict[str, set[str]]:
    """Each code, with the names of the classes that bear it; a mere base of others is left out."""
    known = classes()
    bases = {base for _, _, of in known for base in of}
    found: dict[str, set[str]] = {}
    for tree in sources():
        for node in ast.walk(tree):
            match node:
                case ast.Constant(value=str(text)) if CODE.fullmatch(text):
                    found.setdefault(text, set())
    for name, code, _ in known:
        if name in bases:
            found.pop(code, None)
        else:
            found.setdefault(code, set()).add(name)
    return found


def text_of(*patterns: str) -> str:
    paths = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return "\n".join(path.read_text() for path in paths if path != Path(__file__))


CODES = codes()
# What only a core that lies can bring about, until a lying core is among the tests' places.
OF_LIARS = {"FAILBACK-OWNER-DISPUTED", "FAILBACK-SOURCE-JOB-FAILED"}


def test_the_codes_are_found() -> None:
    assert {"FAILOVER-NO-POINT", "STORE-FULL", "AGENT-BUSY", "JOBS-CONFLICT"} <= CODES.keys()


def test_every_code_is_documented() -> None:
    documents = text_of("docs/*.md")
    assert sorted(code for code in CODES if code not in documents) == []


def test_every_code_is_tested() -> None:
    tests = text_of("tests/**/*.py")
    named = [
        code for code, bearers in CODES.items() if code in tests or any(b in tests for b in bearers)
    ]
    assert sorted(CODES.keys() - named) == sorted(OF_LIARS)
