"""`python -m lab repair`: rebuild the lost site, with blank machines that wait for a restore."""

import datetime
import shutil
import time
from pathlib import Path

from lab.first_start import NotReady, prepare_core
from lab.places import Ports, home, port_shift
from lab.processes import find_process
from lab.rescue_machines import read_rescue_file
from lab.sites import ADMINISTRATOR, Sites
from lab.state import (
    SOURCE_CORE_ONLY,
    SOURCE_DEAD,
    SOURCE_REPAIRED,
    changed_state,
    load_state,
)
from lab.stop import end_source, supervisor_record
from rescue_medium.medium import ensure_medium

CORE_KEPT, CORE_NEW = "kept", "new"
WAIT_SECONDS = 420
PAUSE_SECONDS = 1.0


def repair(core: str) -> int:
    """Repair the source site; `core` is CORE_KEPT or CORE_NEW. Return the exit code."""
    sites = Sites(home(), Ports.shifted(port_shift()))
    state = load_state(sites.home)
    if state.source not in (SOURCE_DEAD, SOURCE_CORE_ONLY):
        print(f"{sites.source.name} is not lost. There is nothing to repair.")
        return 1
    medium = ensure_medium()
    # Keeps the supervisor from starting anything there meanwhile.
    with changed_state(sites.home) as state:
        state.source = SOURCE_DEAD
    end_source(sites)
    _put_away(sites, is_core_new=core == CORE_NEW)
    for machine in sites.machines:
        machine.make_blank(medium)
    if core == CORE_NEW:
        try:
            _install_core(sites, medium)
        except NotReady as error:
            print(error)
            return 1
    with changed_state(sites.home) as state:
        state.source = SOURCE_REPAIRED
        state.repaired_at = datetime.datetime.now(datetime.UTC).isoformat()
        state.repaired_core = core
    what = "a newly installed core" if core == CORE_NEW else "its old core"
    print(f"{sites.source.name} is repaired, with {what} and blank machines.", flush=True)
    if core == CORE_NEW:
        password = sites.source.password_file.read_text().strip()
        print(f"  {sites.source.url}   {ADMINISTRATOR} / {password}")
    if not find_process(supervisor_record(sites.home)):
        print("They start with the next `make run`, which then prints the machines' codes.")
        return 0
    return _tell_codes(sites)


def lost_folder(lab_home: Path) -> Path:
    """Return where the remains of the last lost site are kept."""
    return lab_home / "lost"


def _put_away(sites: Sites, is_core_new: bool) -> None:
    """Move the lost machines away, and the whole core if it is replaced."""
    lost = lost_folder(sites.home)
    shutil.rmtree(lost, ignore_errors=True)
    lost.mkdir(mode=0o700)
    if is_core_new:
        sites.source.home.rename(lost / sites.source.home.name)
        return
    for machine in sites.machines:
        if machine.folder.exists():
            machine.folder.rename(lost / machine.name)


def _install_core(sites: Sites, medium: Path) -> None:
    sites.ensure_secrets()
    sites.source.take_medium(medium)
    prepare_core(sites.source, is_new=True)


def _tell_codes(sites: Sites) -> int:
    """Wait until all blank machines show their codes, and print the codes."""
    wanted = {machine.name for machine in sites.machines}
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        entries = read_rescue_file(sites.home)
        if wanted <= set(entries):
            for name in sorted(wanted):
                entry = entries[name]
                print(f"  {name:<8} {entry['address']}:{entry['port']}   code {entry['code']}")
            return 0
        time.sleep(PAUSE_SECONDS)
    missing = sorted(wanted - set(read_rescue_file(sites.home)))
    print(f"After {WAIT_SECONDS} s, {', '.join(missing)} still show no code. Their consoles:")
    for machine in sites.machines:
        print(f"  {machine.guest.console_log}")
    return 1
