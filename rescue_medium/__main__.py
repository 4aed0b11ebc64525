"""Build the rescue medium: `python -m rescue_medium build [--output FILE]`."""

import argparse
import hashlib
import sys
from pathlib import Path

from rescue_medium.commands import CommandFailed
from rescue_medium.facts import NotAMedium, read_facts
from rescue_medium.medium import CannotBuild, build_medium


def main() -> int:
    """Build it and report the result."""
    parser = argparse.ArgumentParser(prog="python -m rescue_medium", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="write the ISO; as root, on Debian")
    build.add_argument(
        "--output", type=Path, default=Path("understudy-rescue.iso"), help="default: %(default)s"
    )
    output = parser.parse_args().output.resolve()
    try:
        build_medium(output)
        facts = read_facts(output)
        with output.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (CannotBuild, CommandFailed, NotAMedium, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{output}: version {facts.version}, {facts.size_bytes} bytes, SHA-256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
