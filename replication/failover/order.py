"""An order to fail machines over: what a page, a command or a script fills in.

`check.check_failover` says what stands in its way, `start.start_failover` carries it out.
"""

from dataclasses import dataclass, field
from uuid import UUID, uuid4


@dataclass(frozen=True)
class Destination:
    """Where the VMs go. Managed object ids of the vCenter; empty: nothing was chosen."""

    vcenter_id: UUID | None = None
    datacenter: str = ""
    # A resource pool or a host, as `protected_machines.exports.places` writes it.
    compute: str = ""
    datastore: str = ""
    network: str = ""


@dataclass(frozen=True)
class MachineOrder:
    """One machine of the order: from which recovery point, and as what VM."""

    machine_id: UUID
    point_id: UUID | None
    vm_name: str
    cpus: int
    memory_bytes: int


@dataclass(frozen=True)
class FailoverOrder:
    """Machines of one source core to be failed over together.

    request_id: an order that is given again with the same id starts nothing.
    """

    pairing_id: UUID
    destination: Destination
    machines: tuple[MachineOrder, ...]
    reason: str = ""
    request_id: UUID = field(default_factory=uuid4)
