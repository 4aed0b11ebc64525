"""Stop a lab, properly or as a disaster would. Ends only the lab's own processes."""

import datetime
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lab.places import Ports, home, port_shift
from lab.processes import OwnProcess, find_process
from lab.programs import Program
from lab.qemu import Guest
from lab.rescue_machines import rescue_file
from lab.sites import Core, Sites, VcenterSite
from lab.state import SOURCE_CORE_ONLY, SOURCE_DEAD, changed_state, load_state
from lab.supervisor import in_parallel

SHUT_DOWN_SECONDS = 20
# Together longer than the supervisor's interval, so that a start it was about to make is seen too.
DISASTER_ROUNDS = 3
DISASTER_PAUSE_SECONDS = 0.7


def supervisor_record(lab_home: Path) -> Path:
    """Return the pid file of the process that runs a lab."""
    return lab_home / "run" / "supervisor.json"


def all_programs(sites: Sites) -> list[Program]:
    """Return the programs of both sites, running or not."""
    return [
        *sites.source.programs(),
        *sites.target.programs(),
        *(sites.vcenter.programs() if sites.vcenter.password_file.exists() else ()),
    ]


def hosted_guests(vcenter: VcenterSite) -> list[Guest]:
    """Return the machines at the DR site, running or not."""
    folders = sorted(vcenter.machines_folder.glob("*/"))
    return [Guest(folder, folder.name) for folder in folders]


def end_everything(sites: Sites, say: Callable[[str], None]) -> None:
    """End all processes of a lab: shut down the machines, ask the programs to end."""
    rescue_file(sites.home).unlink(missing_ok=True)
    programs = [program for program in all_programs(sites) if program.is_running]
    # The hypervisor ends first: it must not tell vCenter that machines were switched off.
    for program in programs:
        if program.name == "hypervisor":
            program.end()
    guests = [guest for guest in hosted_guests(sites.vcenter) if guest.is_running]
    machines = [machine for machine in sites.machines if machine.is_running]
    guest_count = len(guests) + len(machines)
    if not programs and not guest_count:
        return
    say(f"Stopping {guest_count} machines and {len(programs)} programs")
    in_parallel(
        [
            *(partial(machine.shut_down, SHUT_DOWN_SECONDS) for machine in machines),
            *(partial(guest.shut_down, SHUT_DOWN_SECONDS) for guest in guests),
            *(partial(program.end) for program in programs if program.name != "redis"),
        ]
    )
    in_parallel([program.end for program in programs if program.name == "redis"])
    say("All stopped")


def down() -> int:
    """Stop the lab in this home, wherever it was started."""
    lab_home = home()
    if supervisor := find_process(supervisor_record(lab_home)):
        _end_supervisor(supervisor)
    if lab_home.exists():
        end_everything(Sites(lab_home, Ports.shifted(port_shift())), say=print)
    print("The lab is down")
    return 0


def _end_supervisor(supervisor: OwnProcess) -> None:
    print(f"Asking the lab's process {supervisor.pid} to stop")
    supervisor.end(grace_seconds=90)


def disaster() -> int:
    """Kill the source core and its machines without warning; they stay dead."""
    sites = Sites(home(), Ports.shifted(port_shift()))
    with changed_state(sites.home) as state:
        state.source = SOURCE_DEAD
        state.disaster_at = datetime.datetime.now(datetime.UTC).isoformat()
    killed: set[str] = set()
    for _ in range(DISASTER_ROUNDS):
        killed |= _kill_source(sites.source, sites)
        time.sleep(DISASTER_PAUSE_SECONDS)
    if not killed:
        print("Nothing was running at the source site. It stays down.")
        return 0
    print(f"{sites.source.name} is gone: {', '.join(sorted(killed))}")
    return 0


def _kill_source(core: Core, sites: Sites) -> set[str]:
    killed = set()
    for machine in sites.machines:
        if machine.guest.is_running:
            machine.guest.kill()
            killed.add(machine.name)
    for program in core.programs():
        if program.is_running:
            program.kill()
            killed.add(program.name)
    return killed


def end_source(sites: Sites) -> None:
    """End what is running at the source site; it is no longer wanted, but may just be starting."""
    rounds = DISASTER_ROUNDS if find_process(supervisor_record(sites.home)) else 1
    for number in range(rounds):
        if number:
            time.sleep(DISASTER_PAUSE_SECONDS)
        in_parallel(
            [
                *(machine.guest.kill for machine in sites.machines),
                *(program.end for program in sites.source.programs()),
            ]
        )


def revive() -> int:
    """Start the source core again, without its machines, as after a repair."""
    lab_home = home()
    if load_state(lab_home).source != SOURCE_DEAD:
        print("The source core is not dead. There is nothing to revive.")
        return 1
    with changed_state(lab_home) as state:
        state.source = SOURCE_CORE_ONLY
    if find_process(supervisor_record(lab_home)):
        print("The source core is starting. Its machines stay off.")
    else:
        print("The source core will start with the next `make run`. Its machines stay off.")
    return 0
