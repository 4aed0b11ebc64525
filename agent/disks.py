"""Find the machine's disks, and give each a key that stays the same on any hardware.

After a failover, a machine has different controllers, serial numbers and device names. Only what is
written on a disk moves with it. So the key is the identity of the partition table, or of the file
system if there is no table. Only a blank disk is identified by its hardware.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from agent.errors import SnapshotFailed
from agent.providers import Disk
from agent.settings_disk import is_settings_disk

LAYER_PREFIX = "understudy-"
VIEW_PREFIX = "understudy-view-"
_SECTOR_BYTES = 512
_HEAD_BYTES = 4096
_DISK_NAMES = re.compile(r"(sd[a-z]+|vd[a-z]+|xvd[a-z]+|nvme\d+n\d+|mmcblk\d+)")
# vSphere's names by the kernel's drivers.
_CONTROLLERS = {
    "vmw_pvscsi": "pvscsi",
    "mptspi": "lsilogic",
    "mptsas": "lsilogic-sas",
    "BusLogic": "buslogic",
    "ata_piix": "ide",
    "ahci": "sata",
}


class FoundDisk:
    """A disk of this machine: its kernel name, and the layer over it if there is one."""

    def __init__(
        self, name: str, sys_root: Path = Path("/sys"), dev_root: Path = Path("/dev")
    ) -> None:
        self.name = name
        self._dev_root = dev_root
        self.folder = sys_root / "block" / name
        self.layer_name = _find_layer(self.folder, sys_root)
        layer_folder = sys_root / "block" / self.layer_name if self.layer_name else self.folder
        self.capacity_bytes = _read_int(layer_folder / "size") * _SECTOR_BYTES

    @property
    def device(self) -> Path:
        """The device that holds the file systems: the layer, or the disk if it has none."""
        return self._dev_root / (self.layer_name or self.name)

    @property
    def numbers(self) -> str:
        """Major and minor number of the bare disk, in the device mapper's notation."""
        return (self.folder / "dev").read_text().strip()

    @property
    def layer_numbers(self) -> str:
        """Major and minor number of the layer."""
        return (self.folder.parent / (self.layer_name or self.name) / "dev").read_text().strip()


def find_disks(
    left_out: Sequence[str] = (), sys_root: Path = Path("/sys"), dev_root: Path = Path("/dev")
) -> list[FoundDisk]:
    """Return the machine's fixed disks: the boot disk first, the others in bus order.

    A settings disk, which a core added for a while, is not one of them.
    """
    found = [
        FoundDisk(folder.name, sys_root, dev_root)
        for folder in (sys_root / "block").iterdir()
        if _DISK_NAMES.fullmatch(folder.name)
        and folder.name not in left_out
        and (folder / "device").exists()
        and not _read_int(folder / "removable")
        and _read_int(folder / "size")
        and not is_settings_disk(folder, dev_root)
    ]
    boot_name = _boot_disk_name(sys_root)
    return sorted(found, key=lambda disk: (disk.name != boot_name, _bus_path(disk.folder)))


def describe_disks(found: Sequence[FoundDisk], sys_root: Path = Path("/sys")) -> list[Disk]:
    """Return the disks in the form that points use.

    Raises:
        SnapshotFailed: a disk cannot be read.
    """
    boot_name = _boot_disk_name(sys_root)
    disks: list[Disk] = []
    keys: set[str] = set()
    for number, disk in enumerate(found):
        key = _unused(_key(disk), keys)
        keys.add(key)
        disks.append(
            Disk(
                number=number,
                key=key,
                device=f"/dev/{disk.name}",
                capacity_bytes=disk.capacity_bytes,
                controller=controller_of(disk.folder),
                is_boot=disk.name == boot_name,
            )
        )
    return disks


def hardware_keys(found: Sequence[FoundDisk]) -> list[str]:
    """Return unique keys that do not depend on what is written on the disks."""
    keys: list[str] = []
    for disk in found:
        keys.append(_unused(_key_of_hardware(disk), keys))
    return keys


def key_of_content(head: bytes) -> str | None:
    """Return the key found in the first 4 KiB of a disk, if there is one."""
    if head[512:520] == b"EFI PART":
        return f"gpt-{uuid.UUID(bytes_le=head[568:584])}"
    if head[510:512] == b"\x55\xaa" and head[440:444] != bytes(4):
        return f"mbr-{int.from_bytes(head[440:444], 'little'):08x}"
    if head[1080:1082] == b"\x53\xef":
        return f"ext-{uuid.UUID(bytes=head[1128:1144])}"
    if head[0:4] == b"XFSB":
        return f"xfs-{uuid.UUID(bytes=head[32:48])}"
    for sector in range(4):
        label = head[sector * 512 : sector * 512 + 64]
        if label[:8] == b"LABELONE" and label[24:32] == b"LVM2 001":
            return f"lvm-{label[32:64].decode('ascii', 'replace')}"
    return None


def _key(disk: FoundDisk) -> str:
    try:
        with disk.device.open("rb", buffering=0) as device:
            head = device.read(_HEAD_BYTES)
    except OSError as error:
        raise SnapshotFailed(f"Reading the start of {disk.device}: {error.strerror}") from error
    return key_of_content(head.ljust(_HEAD_BYTES, b"\0")) or _key_of_hardware(disk)


def _key_of_hardware(disk: FoundDisk) -> str:
    for name in ("device/wwid", "wwid", "serial"):
        path = disk.folder / name
        try:
            text = "-".join(path.read_text().split())
        except OSError:
            continue
        if text:
            return f"hardware-{text[:100]}"
    return f"blank-{disk.name}"


def _unused(key: str, keys: Container[str]) -> str:
    """Number the copies of a disk, so that their keys differ."""
    if key not in keys:
        return key
    number = 2
    while f"{key}#{number}" in keys:
        number += 1
    return f"{key}#{number}"


def _find_layer(folder: Path, sys_root: Path) -> str | None:
    holders = folder / "holders"
    for holder in sorted(holders.iterdir()) if holders.exists() else ():
        try:
            name = (sys_root / "block" / holder.name / "dm/name").read_text().strip()
        except OSError:
            continue
        if name.startswith(LAYER_PREFIX) and not name.startswith(VIEW_PREFIX):
            return holder.name
    return None


def _boot_disk_name(sys_root: Path) -> str | None:
    """Return the kernel name of the disk that holds /boot."""
    for path in ("/boot", "/"):
        try:
            device = Path(path).stat().st_dev
        except OSError:
            continue
        folder = sys_root / f"dev/block/{os.major(device)}:{os.minor(device)}"
        for name in _disks_below(folder):
            return name
    return None


def _disks_below(folder: Path) -> Iterator[str]:
    """Yield the real disks under a block device, through partitions and layers."""
    if not folder.exists():
        return
    real = folder.resolve()
    slaves = real / "slaves"
    below = sorted(slaves.iterdir()) if slaves.exists() else []
    for slave in below:
        yield from _disks_below(slave)
    if not below:
        yield real.parent.name if (real / "partition").exists() else real.name


def _bus_path(folder: Path) -> list[tuple[int, str]]:
    """Return a disk's path through its buses as a key that sorts numbers by value."""
    parts = re.findall(r"\d+|\D+", str((folder / "device").resolve()))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def controller_of(folder: Path) -> str:
    """Return a disk's controller: the nearest driver above the disk's own."""
    device = (folder / "device").resolve()
    for parent in (device, *device.parents):
        driver = parent / "driver"
        if driver.exists() and driver.resolve().name not in ("sd", "sr"):
            name = driver.resolve().name
            return _CONTROLLERS.get(name, name.replace("_", "-"))
    return ""


def _read_int(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
