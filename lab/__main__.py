"""`python -m lab`: two sites on one computer."""

import argparse
import errno
import sys
from pathlib import Path

COMMANDS = {
    "setup": "install and build what a lab needs",
    "run": "run two sites until Ctrl-C",
    "status": "show what is running",
    "disaster": "kill the source core and its machines without warning",
    "revive": "start the dead source core again, without its machines",
    "down": "stop everything in this lab",
}
CORES = ("kept", "new")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, explanation in COMMANDS.items():
        commands.add_parser(name, help=explanation)
    repair = commands.add_parser("repair", help="rebuild the lost site, with blank machines")
    repair.add_argument(
        "--core",
        choices=CORES,
        required=True,
        help="the old core with its store, or a newly installed, empty one",
    )
    guest = commands.add_parser("guest", help="build the machines' disks, run one for a trial")
    acts = guest.add_subparsers(dest="act", required=True)
    acts.add_parser("build")
    boot = acts.add_parser("boot")
    boot.add_argument("name")
    boot.add_argument("--fresh", action="store_true", help="delete its disks first")
    acts.add_parser("stop").add_argument("name")
    screenshot = acts.add_parser("screenshot")
    screenshot.add_argument("name")
    screenshot.add_argument("path", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "guest":
        _guest(arguments)
    elif arguments.command == "repair":
        from lab.repair import repair as repair_site

        sys.exit(repair_site(arguments.core))
    else:
        sys.exit(_do(arguments.command))


def _do(command: str) -> int:
    """Run a command; print problems that a person can fix without a traceback."""
    # Imported late: `setup` must run on a computer that has next to nothing.
    from lab.advice import SetupFailed, explain
    from rescue_medium.commands import CommandFailed

    try:
        return _act(command)
    except (CommandFailed, SetupFailed) as error:
        print(explain(error), file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        print(explain(error), file=sys.stderr)
        return 1


def _act(command: str) -> int:
    if command == "setup":
        from lab.setup import set_up

        set_up()
        return 0
    from lab import run, status, stop

    acts = {
        "run": run.run,
        "status": status.status,
        "disaster": stop.disaster,
        "revive": stop.revive,
        "down": stop.down,
    }
    return acts[command]()


def _guest(arguments: argparse.Namespace) -> None:
    from lab import guest_command

    match arguments.act:
        case "build":
            guest_command.build()
        case "boot":
            guest_command.boot(arguments.name, arguments.fresh)
        case "stop":
            guest_command.stop(arguments.name)
        case "screenshot":
            guest_command.screenshot(arguments.name, arguments.path)


if __name__ == "__main__":
    main()
