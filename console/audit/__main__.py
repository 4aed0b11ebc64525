"""Check an export of the audit log: `python -m console.audit check FILE [--head DIGEST]`."""

import argparse
import sys
from pathlib import Path

from console.audit.chain import ChainBroken, check


def main(arguments: list[str]) -> int:
    """Return 0 if the export is whole, 1 if not, 2 if it cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m console.audit", description=__doc__)
    commands = parser.add_subparsers(required=True)
    checking = commands.add_parser("check", help="check an export of the whole log")
    checking.add_argument("file", type=Path)
    checking.add_argument("--head", default="", help="a head digest that was noted before")
    options = parser.parse_args(arguments)
    try:
        with options.file.open(encoding="utf-8") as lines:
            found = check(lines, options.head.strip().lower())
    except (OSError, UnicodeDecodeError) as error:
        print(f"{options.file} cannot be read: {error}")
        return 2
    except ChainBroken as error:
        print(f"NOT WHOLE: {error}")
        return 1
    print(f"Whole: {found.entries} entries, head digest {found.head_digest}")
    if found.known_number:
        print(f"The given head digest is that of entry {found.known_number}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
