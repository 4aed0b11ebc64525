"""Add a settings disk to a VM, so that its agent finds this core; see agent/settings_disk.py.

A recovery point may be older than what its agent was told about this core. The VM gets the disk as
its last one, and the job removes it once the agent was heard.
"""

import ipaddress
import logging
import socket
from dataclasses import replace
from functools import partial

from agent.settings_disk import SETTINGS_DISK_BYTES
from protected_machines.agents.connection import own_home
from protected_machines.agents.settings_disk import settings_disk_of
from protected_machines.models import Machine, VCenter
from protected_machines.models.descriptions import read_description
from recovery_store.importing import new_cid
from recovery_store.manifest import Manifest
from recovery_store.vmdk.deflate import deflate
from recovery_store.vmdk.layout import GRAIN_BYTES
from recovery_store.vmdk.writer import StreamWriter
from vsphere import DiskUpload, VmDisk, VmSpec

logger = logging.getLogger(__name__)


def with_settings_disk(
    spec: VmSpec, manifest: Manifest, vcenter: VCenter
) -> tuple[VmSpec, list[DiskUpload]]:
    """Return the VM with a settings disk and what to send for it; without one where it is no use.

    That is where the point's agent cannot read it, or nobody knows an address of this core that a
    machine could reach.
    """
    machine = Machine.objects.get(pk=manifest.machine_id)
    home = own_home(machine.pk)
    home = replace(home, host=home.host or _address_towards(vcenter))
    can_read = read_description(manifest.description).reads_settings_disk
    if not (can_read and home.host and machine.agent_certificate_pem):
        logger.info("no settings disk machine_id=%s host=%s", machine.pk, home.host or "-")
        return spec, []
    disk = VmDisk(
        number=1 + max(disk.number for disk in spec.disks),
        capacity_bytes=SETTINGS_DISK_BYTES,
        controller=spec.disks[0].controller,
        is_temporary=True,
    )
    stream = _stream_of(settings_disk_of(machine, home))
    upload = DiskUpload(disk.number, len(stream), partial(iter, [stream]))
    return replace(spec, disks=[*spec.disks, disk]), [upload]


def _address_towards(vcenter: VCenter) -> str:
    """Return the address from which this core speaks to the vCenter; empty on one computer."""
    try:
        family, kind, _, _, target = socket.getaddrinfo(
            vcenter.host, vcenter.port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)  # sends nothing
            address = str(probe.getsockname()[0])
    except OSError:
        return ""
    return "" if ipaddress.ip_address(address.partition("%")[0]).is_loopback else address


def _stream_of(disk: bytes) -> bytes:
    parts: list[bytes] = []
    writer = StreamWriter(parts.append, len(disk), new_cid())
    for start in range(0, len(disk), GRAIN_BYTES):
        grain = disk[start : start + GRAIN_BYTES]
        if any(grain):
            writer.grain(start // GRAIN_BYTES, deflate(grain))
    writer.finish()
    return b"".join(parts)
