"""What a VM is made with: its destination, name, CPUs and memory, and their bounds."""

from dataclasses import dataclass
from uuid import UUID

from console.findings import Finding
from vsphere import Placement
from vsphere.spec import MAX_NAME_LENGTH, name_length

MIB = 1024**2
NAME_LENGTH = MAX_NAME_LENGTH
CPUS_LIMIT = 768
MEMORY_LEAST_MIB = 4
MEMORY_LIMIT_MIB = 24 * 1024**2
# vSphere takes memory in steps of this.
MEMORY_STEP_MIB = 4


@dataclass(frozen=True)
class VmOptions:
    """A VM's destination by managed object ids, its name, CPUs and memory."""

    vcenter_id: UUID
    datacenter: str
    # A host goes with its own root resource pool; empty means any host of the pool.
    resource_pool: str
    host: str
    datastore: str
    network: str
    vm_name: str
    cpus: int
    memory_bytes: int
    # Empty: the datacenter's own folder for VMs.
    folder: str = ""
    # Of the machine's network cards in their order; where it ends, `network` is meant.
    nic_networks: tuple[str, ...] = ()
    # Whether the VM gets the MAC addresses of the machine, where vSphere allows that.
    keeps_macs: bool = False

    @property
    def placement(self) -> Placement:
        return Placement(
            datacenter=self.datacenter,
            resource_pool=self.resource_pool,
            host=self.host or None,
            datastore=self.datastore,
            folder=self.folder or None,
            network=self.network,
            more_networks=self.nic_networks,
        )


def memory_mib_of(memory_bytes: int) -> int:
    """Return the memory of a VM for a machine with this much: whole steps, rounded down."""
    steps = memory_bytes // MIB // MEMORY_STEP_MIB
    return max(MEMORY_LEAST_MIB, steps * MEMORY_STEP_MIB)


def check_vm(name: str, cpus: int, memory_bytes: int) -> list[Finding]:
    """Return what vSphere would reject about a VM's name and hardware."""
    findings = []
    if not 0 < name_length(name) <= NAME_LENGTH or not name.isprintable():
        text = f"A VM name must have 1 to {NAME_LENGTH} characters, and no control characters."
        findings.append(Finding.error("EXPORT-VM-NAME", text))
    if not 1 <= cpus <= CPUS_LIMIT:
        text = f"A VM can have 1 to {CPUS_LIMIT} CPUs, not {cpus}."
        findings.append(Finding.error("EXPORT-VM-CPUS", text))
    memory_mib, rest = divmod(memory_bytes, MIB)
    is_whole = not rest and not memory_mib % MEMORY_STEP_MIB
    if not is_whole or not MEMORY_LEAST_MIB <= memory_mib <= MEMORY_LIMIT_MIB:
        text = (
            f"A VM can have {MEMORY_LEAST_MIB} to {MEMORY_LIMIT_MIB} MiB of memory, in steps of "
            f"{MEMORY_STEP_MIB} MiB."
        )
        findings.append(Finding.error("EXPORT-VM-MEMORY", text))
    return findings
