"""Machines suspended after their first boot: their disks and memory at one instant.

A machine resumed from these, on the same virtual hardware, need not boot, which would take half a
minute of processor time without KVM.
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lab.accelerator import accelerator_arguments
from lab.guest.image import MachineImage, ensure_images, image_digest, load_image
from lab.guest.machines import MACHINES, LabMachine, get_machine
from lab.places import CACHE, ROOT
from lab.qemu import GuestFailed
from lab.source_machines import MEMORY_FILE, SourceMachine
from rescue_medium.caching import locked
from rescue_medium.commands import run_command
from rescue_medium.sources import sources_digest

BOOT_SECONDS = 420
# A booted machine is still busy: the agent lists the drivers that the machine boots with.
QUIET_SECONDS = 4.0
QUIET_PART_OF_A_CPU = 0.25


def suspended_digest() -> str:
    """Return a digest of everything that a suspended machine depends on."""
    version = run_command("qemu-system-x86_64", "--version")
    begin = "\n".join([image_digest(), version, *accelerator_arguments(), repr(MACHINES)])
    hardware = (ROOT / "lab" / "qemu.py", ROOT / "lab" / "source_machines.py")
    return sources_digest(hashlib.sha256(begin.encode()).hexdigest(), (), hardware)


def ensure_suspended(name: str, cache: Path = CACHE / "guest") -> MachineImage:
    """Return a suspended machine; boot and suspend it now if it is not in the cache.

    Raises:
        GuestFailed: it does not boot.
    """
    image = ensure_images(cache)[name]
    folder = cache / f"suspended-{suspended_digest()}"
    if not (folder / name).exists():
        with locked(cache / "lock-of-suspended"):
            if not (folder / name).exists():
                _make_room(cache, folder)
                _suspend(get_machine(name), image, folder / name)
    return replace(load_image(folder, name), memory=folder / name / MEMORY_FILE)


def _make_room(cache: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for older in sorted(cache.glob("suspended-*"), key=lambda path: path.stat().st_mtime)[:-2]:
        if older != folder:
            shutil.rmtree(older)


def _suspend(machine: LabMachine, image: MachineImage, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".suspending-", dir=folder.parent) as work:
        source = SourceMachine(machine, Path(work), agent_port=0)
        source.ensure_disks(image)
        with _booted(source):
            source.guest.suspend(source.folder / MEMORY_FILE)
        kept = Path(work) / "kept"
        kept.mkdir()
        for name in ("machine.json", MEMORY_FILE, *(disk.name for disk in image.disks)):
            (source.folder / name).rename(kept / name)
        kept.rename(folder)


@contextmanager
def _booted(source: SourceMachine) -> Iterator[None]:
    """Run a machine without network ports; the block begins once the guest is idle."""
    source.guest.start(source.hardware(), ())
    try:
        source.guest.wait_for_console(source.up_line, BOOT_SECONDS)
        _wait_until_quiet(source)
        yield
    finally:
        source.guest.kill()


def _wait_until_quiet(source: SourceMachine) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    used = _cpu_seconds(source)
    while time.monotonic() < deadline:
        time.sleep(QUIET_SECONDS)
        before, used = used, _cpu_seconds(source)
        if used - before < QUIET_SECONDS * QUIET_PART_OF_A_CPU:
            return
    raise GuestFailed(f"{source.name} stays busy after it has booted")


def _cpu_seconds(source: SourceMachine) -> float:
    process = source.guest.process
    if process is None:
        raise GuestFailed(f"{source.name} has ended: {source.guest.console_text()[-2000:]}")
    return process.cpu_seconds
