"""The privileges that an account needs: which act needs each, and on which object of a placement.

`docs/vsphere.md` has the same list for administrators; a test compares both.
"""

from collections.abc import Collection
from dataclasses import dataclass

IMPORT = "import a VM"
POWER_ON = "power it on"
POWER_OFF = "power it off"
ANSWER = "answer what it asks at power on"
REBOOT = "reboot it"
REMOVE = "remove it"
DETACH = "remove its settings disk"
READ = "read"

# The object that a machine inherits its privileges from. In a vApp, that is the vApp.
HOLDER = "folder"


@dataclass(frozen=True)
class Privilege:
    """A privilege by vSphere's id; on: the roles of the objects that need it."""

    id: str
    act: str
    on: Collection[str] = (HOLDER,)


NEEDED = (
    Privilege("System.View", READ, ("datacenter",)),
    Privilege("System.Read", READ, ("datacenter",)),
    Privilege("VApp.Import", IMPORT, (HOLDER, "resource_pool")),
    Privilege("Resource.AssignVMToPool", IMPORT, ("resource_pool",)),
    Privilege("Datastore.AllocateSpace", IMPORT, ("datastore",)),
    Privilege("Network.Assign", IMPORT, ("network",)),
    Privilege("VirtualMachine.Inventory.Create", IMPORT),
    Privilege("VirtualMachine.Config.AddNewDisk", IMPORT),
    Privilege("VirtualMachine.Config.AddRemoveDevice", IMPORT),
    Privilege("VirtualMachine.Config.AdvancedConfig", IMPORT),
    Privilege("VirtualMachine.Config.Annotation", IMPORT),
    Privilege("VirtualMachine.Config.CPUCount", IMPORT),
    Privilege("VirtualMachine.Config.Memory", IMPORT),
    Privilege("VirtualMachine.Config.Settings", IMPORT),
    Privilege("VirtualMachine.Interact.PowerOn", POWER_ON),
    Privilege("VirtualMachine.Interact.AnswerQuestion", ANSWER),
    Privilege("VirtualMachine.Interact.PowerOff", POWER_OFF),
    Privilege("VirtualMachine.Interact.Reset", REBOOT),
    Privilege("VirtualMachine.Config.RemoveDisk", DETACH),
    Privilege("VirtualMachine.Inventory.Delete", REMOVE),
)


def needed_on(role: str, *, is_vapp: bool) -> list[str]:
    """Return the ids of the privileges that are needed on the object with that role."""
    roles = {role, HOLDER} if is_vapp and role == "resource_pool" else {role}
    return [privilege.id for privilege in NEEDED if roles & set(privilege.on)]
