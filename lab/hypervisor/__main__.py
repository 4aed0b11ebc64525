"""`python -m lab.hypervisor`: the process that watches the simulated vCenter."""

import argparse
import logging
import signal
import threading
from pathlib import Path

from lab.hypervisor.vcenter import Vcenter
from lab.hypervisor.watch import Hypervisor


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.hypervisor", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--ca", type=Path, required=True, help="the simulator's certificate")
    parser.add_argument("--state", type=Path, required=True, help="the simulator's -state file")
    parser.add_argument("--uploads", type=Path, required=True)
    parser.add_argument("--machines", type=Path, required=True, help="where machines live")
    parser.add_argument("--agent-port", type=int, required=True)
    parser.add_argument(
        "--core", action="append", default=[], help="ADDRESS:PORT of a core in their network"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    vcenter = Vcenter(
        arguments.host,
        arguments.port,
        arguments.user,
        arguments.password_file.read_text().strip(),
        arguments.ca,
    )
    Hypervisor(
        vcenter,
        arguments.state,
        arguments.uploads,
        arguments.machines,
        arguments.agent_port,
        {address: int(port) for address, port in (core.split(":") for core in arguments.core)},
    ).run(stop)


if __name__ == "__main__":
    main()
