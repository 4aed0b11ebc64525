"""The machines that the lab protects, as they are to be built."""

import os
from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class LabMachine:
    """One protected machine. `data_disk_bytes` is the size of the second disk, if it has one.

    Without the unit of the guest tools nothing in it reports to a hypervisor, as with a machine
    that was never a virtual one.
    """

    name: str
    address: str
    units: tuple[str, ...]
    root_disk_bytes: int = 384 * MIB
    data_disk_bytes: int | None = None
    cpus: int = 1
    memory_bytes: int = 512 * MIB

    @property
    def disk_bytes(self) -> tuple[int, ...]:
        """The sizes of the disks, in order."""
        if self.data_disk_bytes is None:
            return (self.root_disk_bytes,)
        return (self.root_disk_bytes, self.data_disk_bytes)


MACHINES = (
    LabMachine("web-01", "127.0.1.11", units=("lab-guest-tools.service",)),
    LabMachine("db-01", "127.0.1.12", units=("lab-journal.service",), data_disk_bytes=64 * MIB),
)


def wanted_machines() -> tuple[LabMachine, ...]:
    """Return the machines of this lab: those in `UNDERSTUDY_LAB_MACHINES`, or all.

    Raises:
        SystemExit: one of them does not exist.
    """
    names = os.environ.get("UNDERSTUDY_LAB_MACHINES", "").split(",")
    return tuple(get_machine(name) for name in names if name) or MACHINES


def get_machine(name: str) -> LabMachine:
    """Return the lab's machine with that name.

    Raises:
        SystemExit: there is none.
    """
    for machine in MACHINES:
        if machine.name == name:
            return machine
    raise SystemExit(f"no machine {name!r}; there are {', '.join(m.name for m in MACHINES)}")
