"""`python -m lab status`: show what is running, in one table."""

import json
import time

from lab.places import Ports, home, port_shift
from lab.processes import OwnProcess, find_process
from lab.sites import CORE_NAMES, SOURCE, TARGET, Sites
from lab.state import SOURCE_CORE_ONLY, SOURCE_DEAD, SOURCE_REPAIRED, load_state
from lab.stop import hosted_guests, supervisor_record

Row = tuple[str, str, str, str, str]
HEADINGS: Row = ("Site", "What", "State", "Process", "Where")


def status() -> int:
    """Print the table; return 0 if the lab is running, else 3."""
    sites = Sites(home(), Ports.shifted(port_shift()))
    supervisor = find_process(supervisor_record(sites.home))
    print(f"Lab in {sites.home}: " + (_since(supervisor) if supervisor else "not running"))
    state = load_state(sites.home)
    if state.source == SOURCE_DEAD:
        print(f"{CORE_NAMES[SOURCE]} was lost in a disaster at {state.disaster_at}")
    elif state.source == SOURCE_CORE_ONLY:
        print(f"{CORE_NAMES[SOURCE]} was lost at {state.disaster_at}; its core is running again")
    elif state.source == SOURCE_REPAIRED:
        print(
            f"{CORE_NAMES[SOURCE]} was lost at {state.disaster_at}, and repaired at "
            f"{state.repaired_at} (core {state.repaired_core})"
        )
    for machine in sites.machines:
        if machine.is_in_rescue:
            print(f"{machine.name} is blank and waits to be restored")
    if sites.vcenter.password_file.exists():
        print()
        print_table(_rows(sites))
    return 0 if supervisor else 3


def print_table(rows: list[Row]) -> None:
    """Print the rows below HEADINGS, in aligned columns."""
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    for row in (HEADINGS, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def _rows(sites: Sites) -> list[Row]:
    rows = [
        _row(SOURCE, program.name, program.process, program.address)
        for program in sites.source.programs()
    ]
    rows += [
        _row(
            SOURCE,
            machine.name,
            machine.guest.process,
            f"{machine.machine.address}:{machine.agent_port}",
        )
        for machine in sites.machines
    ]
    rows += [
        _row(TARGET, program.name, program.process, program.address)
        for program in (*sites.target.programs(), *sites.vcenter.programs())
    ]
    for guest in hosted_guests(sites.vcenter):
        record = json.loads((guest.folder / "record.json").read_text())
        address = f"127.0.2.{record['number']}:{sites.ports.agent}"
        rows.append(_row(TARGET, record["name"], guest.process, address))
    return rows


def _row(site: str, name: str, process: OwnProcess | None, address: str) -> Row:
    if process is None:
        return (CORE_NAMES[site], name, "-", "-", address)
    return (CORE_NAMES[site], name, _since(process), str(process.pid), address)


def _since(process: OwnProcess) -> str:
    seconds = int(time.monotonic() - process.started_seconds)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"running {hours}:{minutes:02}:{seconds % 60:02}"
