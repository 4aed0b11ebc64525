"""The smallest valid saved rows, one plain function each. `changes` are columns of the row."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from console.identity import this_core
from protected_machines.choices import ConnectionState, MachineKind, PointKind, PointState
from protected_machines.models import Machine, RecoveryPoint, VCenter

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GIB = 1024**3
PASSWORD = "correct horse battery"

DESCRIPTION: dict[str, Any] = {
    "hostname": "web-01",
    "os": "Debian GNU/Linux 12 (bookworm)",
    "kernel": "6.1.0-18-cloud-amd64",
    "firmware": "bios",
    "boot_id": "7b7a0f0e-1c1c-4a54-8c0c-0f1d2ab3c4d5",
    "cpus": 2,
    "memory_bytes": 512 * 1024**2,
    "disks": [
        {
            "number": 0,
            "key": "mbr-1234abcd",
            "device": "/dev/sda",
            "capacity_bytes": 8 * GIB,
            "controller": "virtio_scsi",
            "is_boot": True,
        }
    ],
    "nics": [
        {
            "name": "eth0",
            "mac": "52:54:00:12:34:56",
            "driver": "virtio_net",
            "addresses": ["10.0.2.15"],
        }
    ],
    "initramfs_drivers": ["vmw_pvscsi", "ahci", "mptspi"],
    "snapshot_provider": "device_mapper",
    "trusted_cores": [],
    "agent": {"version": "0.1.0", "port": 8006},
}


def make_machine(**changes: Any) -> Machine:
    """A machine that this core protects."""
    core = this_core()
    number = Machine.objects.count() + 1
    values: dict[str, Any] = {
        "name": f"machine-{number}",
        "host": f"10.1.{number // 250}.{number % 250 + 1}",
        "kind": MachineKind.PROTECTED,
        "description": DESCRIPTION,
        "owner_core_id": uuid.UUID(core.id),
        "owner_core_name": core.name,
        "owned_since": NOON,
        "connection_state": ConnectionState.ONLINE,
        "last_seen_at": NOON,
    }
    return Machine.objects.create(**{**values, **changes})


def make_recovery_point(machine: Machine | None = None, **changes: Any) -> RecoveryPoint:
    """A base image in the index, taken a minute after the machine's newest point."""
    machine = machine or make_machine()
    newest = machine.points.order_by("-taken_at").first()
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "machine": machine,
        "taken_at": newest.taken_at + timedelta(minutes=1) if newest else NOON,
        "kind": PointKind.INCREMENTAL if changes.get("parent_id") else PointKind.BASE_IMAGE,
        "ownership_epoch": machine.ownership_epoch,
        "taken_by_core_id": machine.owner_core_id,
        "taken_by_core_name": machine.owner_core_name,
        "stored_bytes": GIB,
        "consistency": "file_system",
        "manifest_digest": "0" * 64,
        "state": PointState.UNPROVEN,
    }
    if changes.get("state") == PointState.PROVEN:
        values["proven_at"] = NOON
    if changes.get("state") == PointState.DAMAGED:
        values["damage_text"] = "disk0.vmdk is not what its digest says"
    return RecoveryPoint.objects.create(**{**values, **changes})


def make_vcenter(**changes: Any) -> VCenter:
    """A vCenter that nobody answers for."""
    number = VCenter.objects.count() + 1
    password = changes.pop("password", "secret")
    values: dict[str, Any] = {
        "name": f"vcenter-{number}",
        "host": f"10.2.0.{number}",
        "username": "administrator@vsphere.local",
        "thumbprint": "ab" * 32,
    }
    vcenter = VCenter(**{**values, **changes})
    vcenter.password = password
    vcenter.save(force_insert=True)
    return vcenter
