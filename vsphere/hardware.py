"""A machine's hardware, as vSphere made it."""

from dataclasses import dataclass

from vsphere.api import vim
from vsphere.properties import Properties
from vsphere.spec import CONTROLLERS, DiskSlot

HARDWARE_PATHS = (
    "config.hardware.numCPU",
    "config.hardware.numCoresPerSocket",
    "config.hardware.memoryMB",
    "config.firmware",
    "config.hardware.device",
)


@dataclass(frozen=True)
class AttachedDisk:
    """A disk as vSphere made it."""

    key: int
    slot: DiskSlot | None
    capacity_bytes: int
    file: str


@dataclass(frozen=True)
class AttachedNic:
    """A network adapter as vSphere made it.

    is_mac_kept: its MAC address was brought along, so another computer may have the same.
    """

    adapter: str
    mac: str
    is_mac_kept: bool = False


@dataclass(frozen=True)
class Hardware:
    """A machine's hardware; disks in the server's order."""

    cpus: int
    cores_per_socket: int
    memory_bytes: int
    firmware: str
    disks: tuple[AttachedDisk, ...]
    nics: tuple[AttachedNic, ...]


def read_hardware(of: Properties) -> Hardware:
    """Read the hardware from a machine's properties."""
    controllers: dict[int, tuple[str, int]] = {}
    devices = of.get("config.hardware.device", ())
    for device in devices:
        for name, kind in CONTROLLERS.items():
            if type(device) is kind.make:
                controllers[device.key] = (name, device.busNumber)
    disks, nics = [], []
    for device in devices:
        if isinstance(device, vim.vm.device.VirtualDisk):
            at = controllers.get(device.controllerKey)
            disks.append(
                AttachedDisk(
                    key=device.key,
                    slot=DiskSlot(*at, device.unitNumber) if at else None,
                    capacity_bytes=device.capacityInBytes or device.capacityInKB * 1024,
                    file=getattr(device.backing, "fileName", ""),
                )
            )
        elif isinstance(device, vim.vm.device.VirtualEthernetCard):
            adapter = type(device).__name__.rpartition(".")[2].removeprefix("Virtual").lower()
            is_kept = (device.addressType or "").lower() == "manual"
            nics.append(AttachedNic(adapter, (device.macAddress or "").lower(), is_kept))
    return Hardware(
        cpus=of.get("config.hardware.numCPU", 0),
        cores_per_socket=of.get("config.hardware.numCoresPerSocket", 1),
        memory_bytes=of.get("config.hardware.memoryMB", 0) << 20,
        firmware=of.get("config.firmware", ""),
        disks=tuple(disks),
        nics=tuple(nics),
    )
