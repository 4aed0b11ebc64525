"""`python -m lab guest`: build the machines' disks, or run a single machine for a trial."""

import shutil
import sys
import time
from pathlib import Path

from lab.guest.image import ensure_images, image_digest
from lab.guest.machines import get_machine
from lab.places import Ports, home, port_shift
from lab.qemu import GuestFailed
from lab.source_machines import SourceMachine

BOOT_SECONDS = 180


def trial_machine(name: str, folder: Path | None = None) -> SourceMachine:
    """Return a machine that belongs to no site, in `trial/` of the lab's home."""
    ports = Ports.shifted(port_shift())
    return SourceMachine(get_machine(name), folder or home() / "trial", ports.agent)


def build() -> None:
    """Build what is not in the cache, and print where it is."""
    started = time.monotonic()
    for image in ensure_images().values():
        print(f"{image.name}: {image.disks[0].parent}")
    print(f"image {image_digest()}, {time.monotonic() - started:.1f} s")


def boot(name: str, is_fresh: bool) -> None:
    """Start a machine and wait until it is up."""
    machine = trial_machine(name)
    if is_fresh:
        machine.guest.kill()
        shutil.rmtree(machine.folder, ignore_errors=True)
    machine.ensure_disks(ensure_images()[name])
    started = time.monotonic()
    machine.start()
    try:
        machine.guest.wait_for_console(machine.up_line, BOOT_SECONDS)
    except GuestFailed as error:
        raise SystemExit(f"{error}\nSee {machine.guest.console_log}") from error
    print(f"{name} is up after {time.monotonic() - started:.1f} s")
    print(f"agent:         {machine.machine.address}:{machine.agent_port}")
    print(f"pairing code:  {machine.pairing_code}")
    print(f"console:       {machine.guest.console_log}")
    print(f"stop it with:  {sys.executable} -m lab guest stop {name}")


def stop(name: str) -> None:
    """Shut the machine down; cut its power if it does not shut down."""
    trial_machine(name).guest.shut_down(limit_seconds=30)


def screenshot(name: str, path: Path) -> None:
    """Save the machine's screen as a PNG file."""
    trial_machine(name).guest.screenshot(path)
