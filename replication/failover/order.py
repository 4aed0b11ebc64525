"""An order to fail machines over, filled in by a page, a command or a script.

`check.check_failover` says what stands in its way; `start.start_failover` starts it.
"""

from dataclasses import dataclass, field
from uuid import UUID, uuid4


@dataclass(frozen=True)
class Destination:
    """Where the VMs go, by the vCenter's managed object IDs; empty where nothing was chosen."""

    vcenter_id: UUID | None = None
    datacenter: str = ""
    # A resource pool or a host, as `protected_machines.exports.places` writes it.
    compute: str = ""
    # Empty: the datacenter's own folder for VMs.
    folder: str = ""
    datastore: str = ""
    network: str = ""


@dataclass(frozen=True)
class MachineOrder:
    """One machine of the order: its recovery point, and the VM that it becomes."""

    machine_id: UUID
    point_id: UUID | None
    vm_name: str
    cpus: int
    memory_bytes: int
    # Whether the VM gets the MAC addresses of the machine, where vSphere allows that.
    keeps_macs: bool = False


@dataclass(frozen=True)
class FailoverOrder:
    """Machines of one source core to fail over together.

    request_id: repeating an order with the same ID starts nothing.
    """

    pairing_id: UUID
    destination: Destination
    machines: tuple[MachineOrder, ...]
    reason: str = ""
    request_id: UUID = field(default_factory=uuid4)
