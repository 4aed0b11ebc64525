"""Import a machine again after the simulator was restarted and has forgotten it.

A real vCenter keeps its inventory; vcsim loses it with its process. The hypervisor still has the
uploaded disks and the overlays, so the machine is imported again under its name and marker, and
continues from its overlays.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import vsphere
from lab.hypervisor.machine import HostedMachine
from lab.hypervisor.vcenter import Vcenter, VcenterUnreachable
from vsphere.errors import VSphereError
from vsphere.spec import MARKER_KEY

CHUNK_BYTES = 1 << 20


def import_again(machine: HostedMachine, vcenter: Vcenter) -> None:
    """Import the machine again, and power it on if it was on.

    Raises:
        VcenterUnreachable: vCenter does not answer, or refuses it.
        ValueError, TypeError, KeyError, OSError: the machine's files are incomplete.
    """
    vm = machine.configured
    try:
        with vsphere.connect(vcenter.credentials) as session:
            inventory = session.inventory()
            network = next(network for network in inventory.networks if not network.is_uplink)
            placement = vsphere.Placement(
                datacenter=inventory.datacenters[0].moid,
                resource_pool=inventory.resource_pools[0].moid,
                datastore=inventory.datastores[0].moid,
                network=network.moid,
            )
            spec = vsphere.VmSpec(
                name=vm.name,
                guest_id=vm.guest_id,
                firmware=vm.firmware,
                cpus=vm.cpus,
                memory_bytes=vm.memory_bytes,
                disks=[
                    vsphere.VmDisk(
                        disk.number, disk.capacity_bytes, disk.controller, disk.unit, disk.bus
                    )
                    for disk in vm.disks
                ],
                nics=[vsphere.VmNic(network.moid, adapter, mac) for adapter, mac in vm.nics],
                extra={key: value for key, value in vm.extra.items() if key != MARKER_KEY},
            )
            uploads = [_upload(machine.folder, disk.number) for disk in vm.disks]
            moid = session.import_vm(spec, uploads, placement, vm.extra.get(MARKER_KEY, vm.key))
            if vm.is_powered_on:
                session.get_vm(moid).power_on()
    except VSphereError as error:
        raise VcenterUnreachable(f"{vm.name}: {error}") from error


def _upload(folder: Path, number: int) -> vsphere.DiskUpload:
    path = folder / f"disk-{number}.vmdk"
    return vsphere.DiskUpload(number, path.stat().st_size, partial(_read_chunks, path))


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
