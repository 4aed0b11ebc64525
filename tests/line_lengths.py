"""Check that no line of a template, style sheet or script is too long to read or to compare."""

import sys
from collections.abc import Iterator
from pathlib import Path

LIMIT = 120
ROOT = Path(__file__).resolve().parent.parent
KINDS = ("templates/**/*.html", "static/**/*.css", "static/**/*.js", "static/**/*.svg")


def long_lines() -> Iterator[str]:
    """Yield each line that is too long, as `file:line: characters`."""
    for path in sorted(path for kind in KINDS for path in ROOT.glob(kind)):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if len(line) > LIMIT:
                yield f"{path.relative_to(ROOT)}:{number}: {len(line)} characters, {LIMIT} at most"


if __name__ == "__main__":
    sys.exit("\n".join(long_lines()) or None)
