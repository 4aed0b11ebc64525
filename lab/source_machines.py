"""The protected machines at the source site: their disks and their power."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

from lab.commands import run_command
from lab.guest.image import MachineImage
from lab.guest.machines import LabMachine
from lab.qemu import Drive, Forward, Guest, Hardware

AGENT_PORT = 8006


class SourceMachine:
    """One protected machine of a lab, in its folder."""

    def __init__(self, machine: LabMachine, machines_folder: Path, agent_port: int) -> None:
        self.machine = machine
        self.name = machine.name
        self.agent_port = agent_port
        self.folder = machines_folder / machine.name
        self.guest = Guest(self.folder, machine.name)

    @property
    def pairing_code(self) -> str:
        """The one-time code in the machine's agent, as long as it has its disks."""
        return json.loads((self.folder / "machine.json").read_text())["pairing_code"]

    @property
    def is_running(self) -> bool:
        return self.guest.is_running

    def ensure_disks(self, image: MachineImage) -> None:
        """Give the machine its own copy of the image's disks, unless it has disks already."""
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
            unfinished.rename(self.folder)
        finally:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(unfinished)

    def start(self) -> None:
        """Power on, unless it runs."""
        disks = sorted(self.folder.glob("disk*.raw"))
        hardware = Hardware(
            cpus=self.machine.cpus,
            memory_bytes=self.machine.memory_bytes,
            drives=tuple(Drive(path, "raw", "pvscsi", unit) for unit, path in enumerate(disks)),
            nics=(("vmxnet3", None),),
        )
        forward = Forward(self.machine.address, self.agent_port, AGENT_PORT)
        self.guest.start(hardware, (forward,))
