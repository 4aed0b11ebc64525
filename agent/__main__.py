"""Run the agent: `serve` on a protected machine, `restore` on one that runs the rescue medium."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

from agent.configuration import (
    CONFIGURATION_PATH,
    RESCUE_STATE_FOLDER,
    Configuration,
    read_configuration,
)
from agent.errors import AgentError
from agent.pairing import Pairing
from agent.proof import make_code
from agent.quiet_log import QuietHandler
from agent.service import Service
from agent.settings import homes_on_settings_disks
from agent.state import AgentState


def main() -> int:
    """Run the command; errors of the agent become one line on standard error."""
    arguments = _parse()
    handler = QuietHandler(sys.stderr)
    logging.basicConfig(
        level=logging.INFO, handlers=[handler], format="%(levelname)s %(name)s %(message)s"
    )
    try:
        if arguments.command == "serve":
            _serve(read_configuration(arguments.configuration), ())
        elif arguments.command == "restore":
            _serve(_rescue_configuration(arguments.configuration), arguments.console)
        else:
            is_new = arguments.command == "new-code"
            _print_code(read_configuration(arguments.configuration), is_new)
    except AgentError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="understudy-agent", description=__doc__)
    parser.add_argument("command", choices=("serve", "restore", "show-code", "new-code"))
    parser.add_argument("--configuration", type=Path, default=CONFIGURATION_PATH)
    parser.add_argument(
        "--console",
        type=Path,
        action="append",
        default=[],
        help="for restore: a terminal that also shows the address and code, such as /dev/ttyS0",
    )
    return parser.parse_args()


def _rescue_configuration(path: Path) -> Configuration:
    """Return the configuration of a rescue machine; the file is optional there."""
    if path == CONFIGURATION_PATH and not path.exists():
        return Configuration(mode="restore", state_folder=RESCUE_STATE_FOLDER)
    configuration = read_configuration(path)
    if configuration.mode == "restore":
        return configuration
    return replace(configuration, mode="restore", state_folder=RESCUE_STATE_FOLDER)


def _serve(configuration: Configuration, consoles: list[Path] | tuple[()]) -> None:
    homes = []
    if configuration.mode == "protect":
        homes = homes_on_settings_disks(AgentState(configuration.state_folder))
    service = Service(configuration, consoles, homes)

    def stop(_number: int, _frame: object) -> None:
        # Not in the handler itself, which interrupts the thread in accept().
        threading.Thread(target=service.stop).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"listening on port {service.port}", flush=True)
    service.serve()


def _print_code(configuration: Configuration, is_new: bool) -> None:
    pairing = Pairing(AgentState(configuration.state_folder), configuration.pairing_code)
    if is_new:
        pairing.open(make_code())
    print(pairing.get_code())


if __name__ == "__main__":
    sys.exit(main())
