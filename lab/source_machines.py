"""The protected machines at the source site: their disks and their power.

A machine that was replaced with a blank one is in rescue: it has the rescue medium in its CD drive
and boots from it at every power-on, until it runs from its own disks.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from lab.guest.image import MachineImage
from lab.guest.machines import LabMachine
from lab.qemu import Drive, Forward, Guest, Hardware, Outlet
from rescue_medium.commands import run_command

AGENT_PORT = 8006
MEMORY_FILE = "memory.zst"


class SourceMachine:
    """One protected machine of a lab, in its folder."""

    def __init__(
        self,
        machine: LabMachine,
        machines_folder: Path,
        agent_port: int,
        cores: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.machine = machine
        self.name = machine.name
        self.agent_port = agent_port
        self._outlets = tuple(
            Outlet(address, port, machine.address) for address, port in cores.items()
        )
        self.folder = machines_folder / machine.name
        self.guest = Guest(self.folder, machine.name)

    @property
    def pairing_code(self) -> str:
        """The one-time code of the machine's agent, as long as it has its disks."""
        return json.loads((self.folder / "machine.json").read_text())["pairing_code"]

    @property
    def up_line(self) -> str:
        """What the machine's own system shows on its serial console once it is up."""
        return f"lab: {self.name} is up"

    @property
    def is_running(self) -> bool:
        return self.guest.is_running

    def ensure_disks(self, image: MachineImage) -> None:
        """Give the machine its own copy of the image's disks, unless it already has disks."""
        if self.folder.exists():
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{self.name}-", dir=self.folder.parent))
        try:
            for disk in image.disks:
                run_command(
                    "cp", "--sparse=always", "--reflink=auto", disk, unfinished, limit_seconds=300
                )
            shutil.copy(image.disks[0].parent / "machine.json", unfinished / "machine.json")
            if image.memory is not None:
                shutil.copy(image.memory, unfinished / MEMORY_FILE)
            unfinished.rename(self.folder)
        finally:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(unfinished)

    def make_blank(self, medium: Path) -> None:
        """Replace the machine with one with empty disks and the rescue medium in its CD drive."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for number, length_bytes in enumerate(self.machine.disk_bytes):
            with (self.folder / f"disk{number}.raw").open("wb") as disk:
                disk.truncate(length_bytes)
        # Its own link, so that a newer medium does not remove this one.
        try:
            os.link(medium, self._medium)
        except OSError:
            shutil.copy(medium, self._medium)

    @property
    def _medium(self) -> Path:
        return self.folder / "rescue.iso"

    @property
    def is_in_rescue(self) -> bool:
        """Whether the machine waits to be restored, or is being restored."""
        return self._medium.exists()

    def leave_rescue(self) -> None:
        """Remove the medium; QEMU keeps the file open until it ends."""
        self._medium.unlink(missing_ok=True)

    def console_text(self) -> str:
        """Return what the serial console has shown since the machine was powered on in rescue."""
        return self.guest.console_text()

    def shut_down(self, limit_seconds: float) -> None:
        """Shut its system down in time; the rescue medium has nothing to lose."""
        if self.is_in_rescue:
            self.guest.kill()
        else:
            self.guest.shut_down(limit_seconds)

    def start(self) -> None:
        """Power on, unless it is running."""
        if self.is_running:
            return
        if self.is_in_rescue:
            # An earlier code is no longer valid.
            with contextlib.suppress(FileNotFoundError):
                self.guest.console_log.rename(self.guest.console_log.with_suffix(".log.1"))
        forward = Forward(self.machine.address, self.agent_port, AGENT_PORT)
        memory = self.folder / MEMORY_FILE
        self.guest.start(
            self.hardware(), (forward,), memory if memory.exists() else None, self._outlets
        )

    def hardware(self) -> Hardware:
        """Return the virtual hardware, with its current disks."""
        disks = sorted(self.folder.glob("disk*.raw"))
        return Hardware(
            cpus=self.machine.cpus,
            memory_bytes=self.machine.memory_bytes,
            drives=tuple(Drive(path, "raw", "pvscsi", unit) for unit, path in enumerate(disks)),
            nics=(("vmxnet3", None),),
            boot_medium=self._medium if self.is_in_rescue else None,
        )
