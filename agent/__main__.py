"""Run the agent: `python -m agent serve`, or `show-code` and `new-code` on the machine itself."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from agent.configuration import CONFIGURATION_PATH, Configuration, read_configuration
from agent.errors import AgentError
from agent.pairing import Pairing, make_code
from agent.service import Service
from agent.state import AgentState


def main() -> int:
    """Run the command; errors of the agent become one line on standard error."""
    parser = argparse.ArgumentParser(prog="understudy-agent", description=__doc__)
    parser.add_argument("command", choices=("serve", "show-code", "new-code"))
    parser.add_argument("--configuration", type=Path, default=CONFIGURATION_PATH)
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )
    try:
        configuration = read_configuration(arguments.configuration)
        if arguments.command == "serve":
            _serve(configuration)
        else:
            _print_code(configuration, is_new=arguments.command == "new-code")
    except AgentError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(configuration: Configuration) -> None:
    service = Service(configuration)

    def stop(_number: int, _frame: object) -> None:
        # Not in the handler itself: it interrupts the thread that is in accept().
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
