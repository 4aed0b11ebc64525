"""The machine to make: how callers describe it, and the configuration vSphere needs.

The configuration is built by hand rather than from an OVF, so that controllers, firmware and
adapters are exactly those of the protected machine.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vsphere.api import vim
from vsphere.errors import SpecRefused

MARKER_KEY = "understudy.marker"
COMPLETE_KEY = "understudy.complete"  # set when an import has been finished and checked
TEMPORARY_KEY = "understudy.temporary_disk"  # where it is attached, and its size
BOOT_ID_KEY = "guestinfo.understudy.boot_id"
SCSI_OWN_UNIT = 7
MAX_NAME_LENGTH = 80
MAX_DISK_BYTES = 62 << 40
MAX_TEMPORARY_BYTES = 16 << 20
MAX_STREAM_BYTES = (1 << 32) * 512  # grain tables hold 32-bit sector numbers

Chunks = Iterator[bytes | memoryview]


@dataclass(frozen=True)
class VmDisk:
    """One disk, attached as it was to the protected machine.

    is_temporary: `Vm.remove_temporary_disk` removes it; a machine has at most one, its last.
    """

    number: int
    capacity_bytes: int
    controller: str = "pvscsi"  # pvscsi, lsilogic, lsilogicsas, buslogic, sata, nvme, ide
    unit: int | None = None  # None: the next free unit
    bus: int = 0
    is_temporary: bool = False


@dataclass(frozen=True)
class VmNic:
    """One network adapter; without `mac` the server assigns one."""

    network: str  # moid
    adapter: str = "vmxnet3"  # vmxnet3, e1000, e1000e
    mac: str | None = None


@dataclass(frozen=True)
class VmSpec:
    """A machine to make. Without a unit of their own, its disks are attached in their order."""

    name: str
    guest_id: str
    firmware: str  # bios or efi
    cpus: int
    memory_bytes: int
    disks: Sequence[VmDisk]
    nics: Sequence[VmNic] = ()
    cores_per_socket: int = 1
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DiskUpload:
    """A disk's stream: each call of `read_chunks` yields all `length_bytes` from the start."""

    number: int
    length_bytes: int
    read_chunks: Callable[[], Chunks]


@dataclass(frozen=True)
class VmSpace:
    """What a machine takes where it goes. Its disks are thin: they grow as the guest writes.

    capacity_bytes: its disks, once they are full.
    swap_bytes: the file that vSphere makes at power on, as large as the memory.
    read_data_bytes: returns what the disks hold at first; called only if that matters.
    adapters: the ports of its network.
    """

    capacity_bytes: int
    swap_bytes: int
    read_data_bytes: Callable[[], int]
    adapters: int = 1


@dataclass(frozen=True)
class Placement:
    """Where a machine goes, as managed object ids. Without `host` the server chooses one.

    more_networks: of its further network adapters, where they differ.
    """

    datacenter: str
    resource_pool: str
    datastore: str
    network: str
    host: str | None = None
    folder: str | None = None
    more_networks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ControllerKind:
    """A way to attach disks."""

    make: Any
    import_name: str  # its name in the keys of a lease
    units: int
    is_scsi: bool = False


CONTROLLERS = {
    "pvscsi": ControllerKind(vim.vm.device.ParaVirtualSCSIController, "ParaVirtualSCSI", 16, True),
    "lsilogic": ControllerKind(
        vim.vm.device.VirtualLsiLogicController, "VirtualLsiLogic", 16, True
    ),
    "lsilogicsas": ControllerKind(
        vim.vm.device.VirtualLsiLogicSASController, "VirtualLsiLogicSAS", 16, True
    ),
    "buslogic": ControllerKind(
        vim.vm.device.VirtualBusLogicController, "VirtualBusLogic", 16, True
    ),
    "sata": ControllerKind(vim.vm.device.VirtualAHCIController, "VirtualAHCI", 30),
    "nvme": ControllerKind(vim.vm.device.VirtualNVMEController, "VirtualNVME", 15),
    "ide": ControllerKind(vim.vm.device.VirtualIDEController, "VirtualIDE", 2),
}
DEFAULT_IDE_KEYS = (200, 201)  # every machine has these two
BUSES = {"ide": 2}
ADAPTERS = {
    "vmxnet3": vim.vm.device.VirtualVmxnet3,
    "e1000": vim.vm.device.VirtualE1000,
    "e1000e": vim.vm.device.VirtualE1000e,
}


@dataclass(frozen=True)
class DiskSlot:
    """Where a disk is attached; in a lease's keys: `Virtual…Controller<bus>:<unit>`."""

    controller: str
    bus: int
    unit: int

    @property
    def import_name(self) -> str:
        """Return the tail of the disk's key in a lease."""
        return f"{CONTROLLERS[self.controller].import_name}Controller{self.bus}:{self.unit}"


def assign_slots(disks: Sequence[VmDisk]) -> dict[int, DiskSlot]:
    """Return the slot of each disk, by number. Requested units are kept; others get free ones.

    Raises:
        SpecRefused: two disks need the same slot, or none is free.
    """
    slots: dict[int, DiskSlot] = {}
    taken: set[DiskSlot] = set()
    for disk in sorted(disks, key=lambda disk: disk.unit is None):
        kind = CONTROLLERS.get(disk.controller)
        if kind is None:
            raise SpecRefused(
                f"Attach disk {disk.number}: unknown controller {disk.controller!r}. "
                f"Choose one of {', '.join(CONTROLLERS)}."
            )
        for slot in _candidates(disk, kind):
            if slot not in taken:
                break
        else:
            raise SpecRefused(
                f"Attach disk {disk.number}: {disk.controller} bus {disk.bus} has no "
                f"{'free unit' if disk.unit is None else f'unit {disk.unit} free'}. Choose another "
                "bus or unit."
            )
        taken.add(slot)
        slots[disk.number] = slot
    return slots


def _candidates(disk: VmDisk, kind: ControllerKind) -> Iterator[DiskSlot]:
    usable = [unit for unit in range(kind.units) if not (kind.is_scsi and unit == SCSI_OWN_UNIT)]
    buses = range(BUSES.get(disk.controller, 4))
    if disk.unit is not None:
        if disk.unit in usable and disk.bus in buses:
            yield DiskSlot(disk.controller, disk.bus, disk.unit)
        return
    for bus in buses:
        if bus >= disk.bus:
            yield from (DiskSlot(disk.controller, bus, unit) for unit in usable)


_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def is_card_address(mac: str) -> bool:
    """Tell whether it is the MAC address of a single card."""
    return (
        bool(_MAC.fullmatch(mac.lower()))
        and int(mac[:2], 16) % 2 == 0
        and mac != "00:00:00:00:00:00"
    )


def why_not_kept(mac: str) -> str:
    """Return why vSphere does not let a machine bring along a MAC address; empty if it does."""
    if not is_card_address(mac):
        return "it is not the address of a single card"
    octets = [int(octet, 16) for octet in mac.split(":")]
    is_generated = octets[:3] == [0x00, 0x0C, 0x29]
    if is_generated or (octets[:3] == [0x00, 0x50, 0x56] and octets[3] >= 0x40):
        return "it is in a range from which vSphere itself gives addresses"
    return ""


def escaped_name(name: str) -> str:
    """Return a name as the API wants it; `inventory.plain_name` is its reverse."""
    return name.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")


def name_length(name: str) -> int:
    """Return a name's length as vSphere counts: not escaped, in units of UTF-16."""
    return len(name.encode("utf-16-le", "surrogatepass")) // 2


def check_spec(spec: VmSpec) -> None:
    """Raise SpecRefused if no server could make this machine."""
    problems = []
    if not 1 <= name_length(spec.name) <= MAX_NAME_LENGTH:
        problems.append(f"the name must have 1 to {MAX_NAME_LENGTH} characters")
    if not spec.name.isprintable():
        problems.append("the name must not have control characters or line breaks")
    if spec.firmware not in ("bios", "efi"):
        problems.append(f"firmware {spec.firmware!r} is neither bios nor efi")
    if spec.cpus < 1 or spec.memory_bytes < 1 << 22:
        problems.append("it needs at least one CPU and 4 MiB of memory")
    if spec.cores_per_socket < 1 or spec.cpus % spec.cores_per_socket:
        problems.append(f"{spec.cpus} CPUs are not sockets of {spec.cores_per_socket} cores")
    if len({disk.number for disk in spec.disks}) != len(spec.disks) or not spec.disks:
        problems.append("it needs at least one disk, and each disk needs its own number")
    for disk in spec.disks:
        if not 0 < disk.capacity_bytes <= MAX_DISK_BYTES or disk.capacity_bytes % 512:
            problems.append(
                f"disk {disk.number} has an impossible size: {disk.capacity_bytes} bytes"
            )
    temporary = [disk for disk in spec.disks if disk.is_temporary]
    if len(temporary) > 1 or any(disk.capacity_bytes > MAX_TEMPORARY_BYTES for disk in temporary):
        problems.append(f"only one disk of at most {MAX_TEMPORARY_BYTES} bytes can be temporary")
    for nic in spec.nics:
        if nic.adapter not in ADAPTERS:
            problems.append(f"unknown network adapter {nic.adapter!r}")
        if nic.mac is not None and not is_card_address(nic.mac):
            problems.append(f"{nic.mac[:40]!r} is not the MAC address of a card")
    if problems:
        raise SpecRefused(f"Make {spec.name!r}: {'; '.join(problems)}.")


def build_config(
    spec: VmSpec,
    *,
    datastore_name: str,
    nic_backings: Sequence[Any],
    marker: str,
    hardware_version: str,
    guest_id: str,
) -> Any:
    """Return the ConfigSpec of a machine with empty thin disks, ready to be filled."""
    slots = assign_slots(spec.disks)
    changes, controller_keys = _controllers(slots)
    for disk in spec.disks:
        changes.append(_disk(disk, slots[disk.number], controller_keys, datastore_name))
    for number, (nic, backing) in enumerate(zip(spec.nics, nic_backings, strict=True)):
        changes.append(_nic(nic, backing, number))
    extra = {**spec.extra, MARKER_KEY: marker, "uuid.action": "create", "disk.EnableUUID": "TRUE"}
    extra.pop(COMPLETE_KEY, None)
    for disk in spec.disks:
        if disk.is_temporary:
            extra[TEMPORARY_KEY] = temporary_text(slots[disk.number], disk.capacity_bytes)
    return vim.vm.ConfigSpec(
        name=escaped_name(spec.name),
        version=hardware_version,
        guestId=guest_id,
        alternateGuestName=spec.guest_id if guest_id != spec.guest_id else None,
        annotation=f"Made by Understudy. Do not change this line: {MARKER_KEY}={marker}",
        firmware=spec.firmware,
        numCPUs=spec.cpus,
        numCoresPerSocket=spec.cores_per_socket,
        memoryMB=-(-spec.memory_bytes // (4 << 20)) * 4,
        files=vim.vm.FileInfo(vmPathName=f"[{datastore_name}]"),
        extraConfig=[vim.option.OptionValue(key=key, value=value) for key, value in extra.items()],
        deviceChange=changes,
    )


def temporary_text(slot: DiskSlot, capacity_bytes: int) -> str:
    """Return the value of `TEMPORARY_KEY` for a disk."""
    return f"{slot.import_name} {capacity_bytes}"


def _change(device: Any, **more: Any) -> Any:
    return vim.vm.device.VirtualDeviceSpec(operation="add", device=device, **more)


def _controllers(slots: Mapping[int, DiskSlot]) -> tuple[list[Any], dict[tuple[str, int], int]]:
    changes: list[Any] = []
    keys: dict[tuple[str, int], int] = {}
    for slot in slots.values():
        where = (slot.controller, slot.bus)
        if where in keys:
            continue
        if slot.controller == "ide":
            keys[where] = DEFAULT_IDE_KEYS[slot.bus]
            continue
        kind = CONTROLLERS[slot.controller]
        keys[where] = -200 - len(keys)
        device = kind.make(key=keys[where], busNumber=slot.bus)
        if kind.is_scsi:
            device.sharedBus = "noSharing"
        changes.append(_change(device))
    return changes, keys


def _disk(disk: VmDisk, slot: DiskSlot, keys: Mapping[tuple[str, int], int], store: str) -> Any:
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
        fileName=f"[{store}]", diskMode="persistent", thinProvisioned=True, eagerlyScrub=False
    )
    device = vim.vm.device.VirtualDisk(
        key=-300 - disk.number,
        controllerKey=keys[slot.controller, slot.bus],
        unitNumber=slot.unit,
        capacityInKB=disk.capacity_bytes // 1024,
        capacityInBytes=disk.capacity_bytes,
        backing=backing,
    )
    return _change(device, fileOperation="create")


def _nic(nic: VmNic, backing: Any, number: int) -> Any:
    device = ADAPTERS[nic.adapter](
        key=-400 - number,
        backing=backing,
        addressType="manual" if nic.mac else None,
        macAddress=nic.mac,
        connectable=vim.vm.device.VirtualDevice.ConnectInfo(
            startConnected=True, allowGuestControl=True, connected=True
        ),
    )
    return _change(device)


def standard_backing(name: str, network: Any) -> Any:
    """Return the backing of an adapter on a standard network."""
    return vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName=name, network=network)


def distributed_backing(portgroup_key: str, switch_uuid: str) -> Any:
    """Return the backing of an adapter on a distributed port group."""
    return vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(
        port=vim.dvs.PortConnection(portgroupKey=portgroup_key, switchUuid=switch_uuid)
    )


def opaque_backing(network_id: str, network_type: str) -> Any:
    """Return the backing of an adapter on an opaque (NSX) network."""
    return vim.vm.device.VirtualEthernetCard.OpaqueNetworkBackingInfo(
        opaqueNetworkId=network_id, opaqueNetworkType=network_type
    )


HARDWARE_BY_VERSION = (((9, 0), 22), ((8, 0), 20), ((7, 0), 17), ((6, 7), 14), ((6, 5), 13))
WANTED_HARDWARE = 17


def choose_hardware_version(host_versions: Sequence[str]) -> str:
    """Return the newest hardware version that all hosts can run, at most that of vSphere 7.

    A host that does not tell its version is passed over.
    """
    lowest = WANTED_HARDWARE
    for version in filter(None, host_versions):
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        lowest = min(
            lowest, next((hw for least, hw in HARDWARE_BY_VERSION if numbers >= least), 11)
        )
    return f"vmx-{lowest:02d}"


def choose_guest_id(wanted: str, known: Sequence[str]) -> str:
    """Return `wanted` if the server knows it or lists nothing, else the closest known guest id."""
    if not known or wanted in known:
        return wanted
    is_64 = "64" in wanted
    family = re.match(r"[A-Za-z]+?(?=\d|_|Guest)", wanted)
    if family:
        related = [
            one for one in known if one.startswith(family.group()) and ("64" in one) == is_64
        ]
        if related:
            return max(related, key=_guest_version)
    generic = ("otherGuest64", "otherGuest") if is_64 else ("otherGuest",)
    if not wanted.startswith("win"):
        generic = ("otherLinux64Guest" if is_64 else "otherLinuxGuest", *generic)
    return next((one for one in generic if one in known), wanted)


def _guest_version(guest_id: str) -> int:
    found = re.search(r"\d+", guest_id.replace("_64Guest", "Guest").replace("64Guest", "Guest"))
    return int(found.group()) if found else 0
