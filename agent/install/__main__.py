"""Install the agent: `python -m agent.install ROOT [--code-file FILE]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agent.configuration import PROVIDERS
from agent.errors import AgentError
from agent.install import InstallFailed, install_into, install_rescue
from agent.protocol import DEFAULT_PORT


def main() -> int:
    """Install, and print what is left to do."""
    parser = argparse.ArgumentParser(prog="python -m agent.install", description=__doc__)
    parser.add_argument("root", type=Path, help="root tree of the machine; / for this machine")
    parser.add_argument(
        "--code-file",
        type=Path,
        help="contains a one-time pairing code; by default, the agent makes one",
    )
    parser.add_argument("--port", type=int, help=f"by default as before, or {DEFAULT_PORT}")
    parser.add_argument("--provider", choices=PROVIDERS, help="by default as before, or auto")
    parser.add_argument(
        "--rescue",
        action="store_true",
        help="install only the program, for the tree of a rescue medium",
    )
    arguments = parser.parse_args()
    try:
        if arguments.rescue:
            install_rescue(arguments.root)
            print("Installed. On the medium, run: understudy-agent restore --console /dev/console")
            return 0
        code = arguments.code_file.read_text().strip() if arguments.code_file else None
        install_into(arguments.root, code, arguments.port, arguments.provider)
    except OSError as error:
        print(f"{InstallFailed.code}: {error}", file=sys.stderr)
        return 1
    except AgentError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    print("Installed. On the machine, run update-initramfs -u -k all, then restart it once.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
