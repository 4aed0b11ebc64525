"""`python -m lab run`: start both sites, report when they are ready, keep them up until Ctrl-C."""

import logging
import os
import signal
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from lab.accelerator import accelerator_arguments
from lab.first_start import FirstStart, NotReady, prepare_core
from lab.guest.image import MachineImage, ensure_images, image_digest
from lab.places import Ports, home, port_shift, refuse_taken
from lab.processes import OwnProcess, find_process, write_record
from lab.programs import Program
from lab.rescue_machines import RescueWatch
from lab.setup import set_up
from lab.sites import ADMINISTRATOR, CORE_NAMES, Sites
from lab.state import (
    SOURCE_CORE_ONLY,
    SOURCE_DEAD,
    SOURCE_REPAIRED,
    SOURCE_UP,
    changed_state,
    load_state,
)
from lab.stop import end_everything, supervisor_record
from lab.supervisor import Kept, Supervisor, in_parallel
from lab.suspended import ensure_suspended
from rescue_medium.medium import ensure_medium

log = logging.getLogger(__name__)


def say(text: str) -> None:
    """Print a message at once, for terminals and pipes."""
    print(text, flush=True)


def run() -> int:
    """Run the lab; return the exit code."""
    lab_home = home()
    lab_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    record = supervisor_record(lab_home)
    if other := find_process(record):
        say(f"This lab is already running (process {other.pid}). `python -m lab down` stops it.")
        return 1
    write_record(record, OwnProcess.of(os.getpid()))
    _log_to(lab_home / "lab.log")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        set_up()
        sites = Sites(lab_home, Ports.shifted(port_shift()))
        return _Run(sites, _images(sites), stop).run()
    finally:
        record.unlink(missing_ok=True)


def _images(sites: Sites) -> dict[str, MachineImage]:
    if os.environ.get("UNDERSTUDY_LAB_RESUME") == "1":
        return {machine.name: ensure_suspended(machine.name) for machine in sites.machines}
    return ensure_images()


class _Run:
    """One run, from the first process to the last."""

    def __init__(
        self, sites: Sites, images: dict[str, MachineImage], stop: threading.Event
    ) -> None:
        self._sites = sites
        self._images = images
        self._stop = stop
        self._site_programs: dict[str, list[Program]] = {}

    def run(self) -> int:
        sites = self._sites
        # Programs left behind by an earlier run would hold the ports.
        end_everything(sites, say=lambda text: None)
        refuse_taken(sites.ports)
        sites.ensure_secrets()
        sites.vcenter.take_binary()
        medium = ensure_medium()
        for core in sites.cores:
            core.take_medium(medium)
        say(f"Starting two sites below {sites.home} ({_accelerator()})")
        self._site_programs = {core.site: core.programs() for core in sites.cores}
        self._site_programs[sites.target.site] += sites.vcenter.programs()
        supervisor = Supervisor(self._wanted, say)
        rescue_watch = RescueWatch(sites.home, sites.machines, say)
        exit_code = 0
        try:
            preparations = [partial(prepare_core, core) for core in sites.cores]
            in_parallel([self._prepare_machines, *preparations])
            supervisor.start()
            rescue_watch.start()
            FirstStart(sites, self._site_programs, self._stop, say).run()
            self._say_ready()
            self._stop.wait()
        except NotReady as error:
            if not self._stop.is_set():
                say(f"The lab did not start: {error}")
                exit_code = 1
        finally:
            supervisor.stop()
            rescue_watch.stop()
            end_everything(sites, say)
        return exit_code

    def _prepare_machines(self) -> None:
        state = load_state(self._sites.home)
        for machine in self._sites.machines:
            machine.ensure_disks(self._images[machine.name])
        if state.image_digest is None:
            with changed_state(self._sites.home) as state:
                state.image_digest = image_digest()
        elif state.image_digest != image_digest():
            say(
                "The machines of this lab were built from older sources. "
                "To rebuild them, stop the lab and delete its folder."
            )

    def _wanted(self) -> Iterable[Kept]:
        """What should run now, after `disaster`, `revive` and `repair`."""
        source = load_state(self._sites.home).source
        yield from self._site_programs[self._sites.target.site]
        if source != SOURCE_DEAD:
            yield from self._site_programs[self._sites.source.site]
        if source in (SOURCE_UP, SOURCE_REPAIRED):
            yield from self._sites.machines

    def _say_ready(self) -> None:
        sites = self._sites
        say("")
        say("Understudy is ready")
        for core in (sites.target, sites.source):
            password = core.password_file.read_text().strip()
            say(f"  {CORE_NAMES[core.site]:<13} {core.url}   {ADMINISTRATOR} / {password}")
        source = load_state(sites.home).source
        if source in (SOURCE_DEAD, SOURCE_CORE_ONLY):
            if source == SOURCE_DEAD:
                say(f"  {sites.source.name} was lost in the disaster. It stays down.")
                say("  `python -m lab revive` starts its core, without its machines.")
            say("  `python -m lab repair --core kept` (or new) rebuilds it, with blank machines.")
        else:
            say("  `python -m lab disaster` kills the source core and its machines.")
        say("  Ctrl-C stops everything.")


def _accelerator() -> str:
    return "KVM" if "kvm" in accelerator_arguments() else "software emulation, without KVM"


def _log_to(path: Path) -> None:
    logging.basicConfig(
        filename=path, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
