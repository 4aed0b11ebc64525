"""Check that a VM can be made of a recovery point. Exports and failovers share these functions."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from agent.client.description import MachineDescription
from console.findings import Finding, Severity, errors_first
from console.identity import this_core
from protected_machines.agents.delegation import issuers_of
from protected_machines.choices import PointState
from protected_machines.exports.options import VmOptions
from protected_machines.exports.vcenters import connect, get_vcenter
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.models.descriptions import read_description
from protected_machines.points.proofs import get_manifest
from protected_machines.points.store import open_store
from recovery_store.errors import StoreError
from recovery_store.manifest import Manifest
from vsphere import Placement, Session, VmSpace
from vsphere.errors import NoPermission
from vsphere.spec import why_not_kept

logger = logging.getLogger(__name__)


# Disk controllers by the driver that a guest's initramfs needs to find its root disk, fastest
# first. The names are those of vsphere.VmDisk.controller.
CONTROLLERS_BY_DRIVER = (
    ("vmw_pvscsi", "pvscsi"),
    ("mptspi", "lsilogic"),
    ("mptsas", "lsilogicsas"),
    ("nvme", "nvme"),
    ("ahci", "sata"),
)


@dataclass(frozen=True)
class ExportFacts:
    """What the findings about exporting a point depend on."""

    point_state: str
    damage_text: str
    description: MachineDescription
    # This core's, and of those that delegated the machine to it. The agent must trust one of them.
    fingerprints: Collection[str]


def choose_controller(initramfs_drivers: Iterable[str]) -> str | None:
    """Return the fastest disk controller that the guest boots with, if there is one."""
    drivers = {driver.replace("-", "_") for driver in initramfs_drivers}
    for driver, controller in CONTROLLERS_BY_DRIVER:
        if driver in drivers:
            return controller
    return None


def check_point(
    facts: ExportFacts, placement_findings: Sequence[Finding] = (), *, needs_agent: bool = False
) -> list[Finding]:
    """Return the findings about the export, errors first. Pure.

    `needs_agent`: this core will protect the machine once it runs, so the agent must trust it.
    """
    findings = [*_point_findings(facts), *_guest_findings(facts.description)]
    if needs_agent and not any(map(facts.description.trusts, facts.fingerprints)):
        findings.append(
            Finding.error(
                "EXPORT-CORE-NOT-TRUSTED",
                "The agent in this recovery point trusts neither this core nor one that has "
                "delegated the machine to it, so this core could not protect the machine. Choose "
                "another recovery point, or export this one.",
            )
        )
    findings.extend(placement_findings)
    return errors_first(findings)


def _point_findings(facts: ExportFacts) -> list[Finding]:
    if facts.point_state == PointState.DAMAGED:
        text = f"The recovery point is damaged: {facts.damage_text}. Choose another."
        return [Finding.error("EXPORT-POINT-DAMAGED", text)]
    if facts.point_state == PointState.UNPROVEN:
        text = "The recovery point has not been proven yet. It is proven before it is used."
        return [Finding.warning("EXPORT-POINT-UNPROVEN", text)]
    return []


def _guest_findings(description: MachineDescription) -> list[Finding]:
    findings = []
    drivers = description.initramfs_drivers
    controller = choose_controller(drivers)
    if not drivers:
        text = (
            "The recovery point does not record which drivers the guest boots with. The "
            "VM will have a pvscsi controller."
        )
        findings.append(Finding.warning("EXPORT-DRIVERS-UNKNOWN", text))
    elif controller is None:
        text = (
            "The guest's initramfs has no driver for a disk controller that vSphere "
            "offers (vmw_pvscsi, mptspi, mptsas, nvme, ahci), so the guest will not find "
            "its root disk. Add one of these drivers on the machine, then take a new "
            "recovery point."
        )
        findings.append(Finding.error("EXPORT-NO-DISK-DRIVER", text))
    elif controller != "pvscsi":
        text = (
            f"The guest's initramfs has no vmw_pvscsi driver. The VM will have a {controller} "
            "controller, which is slower."
        )
        findings.append(Finding.warning("EXPORT-OTHER-CONTROLLER", text))
    if description.firmware == "efi":
        text = (
            "The machine boots by EFI. Its boot entries are not on its disks, so the "
            "disk must contain the fallback loader EFI/BOOT/BOOTX64.EFI."
        )
        findings.append(Finding.warning("EXPORT-EFI-BOOT-ENTRIES", text))
    return findings


def check_macs(description: MachineDescription, keeps_macs: bool) -> list[Finding]:
    """Return which MAC addresses the VM will not keep, although it was asked for, and why."""
    return [
        Finding.warning(
            "EXPORT-MAC-NOT-KEPT",
            f"The VM gets another MAC address than {card.mac or 'that'} of {card.name}: {reason}.",
        )
        for card in description.nics
        if keeps_macs and (reason := why_not_kept(card.mac))
    ]


def check_export(
    machine: Machine, point: RecoveryPoint, options: VmOptions, *, needs_agent: bool = False
) -> list[Finding]:
    """Read the facts from the store and the vCenter, and return the findings.

    Raises:
        PointNotFound: the point is not in the store.
        VSphereError: the vCenter does not answer.
    """
    manifest = get_manifest(machine.pk, point.pk)
    with connect(get_vcenter(options.vcenter_id)) as session:
        found = check_placement(
            session,
            options.placement,
            options.vm_name,
            space_of(manifest, options.memory_bytes),
        )
    facts = export_facts(point, manifest, issuers_of([machine.pk])[machine.pk])
    found += check_macs(facts.description, options.keeps_macs)
    return check_point(facts, found, needs_agent=needs_agent)


def check_placement(
    session: Session, placement: Placement, vm_name: str, space: VmSpace
) -> list[Finding]:
    """Return the vCenter's findings about making a VM of that name there, which takes that space.

    Raises:
        VSphereError: it does not answer.
    """
    try:
        found = session.check_placement(placement, vm_name, space)
    except NoPermission as error:  # another destination may be readable
        return [Finding.error("PLACEMENT-PRIVILEGE-MISSING", str(error))]
    return [Finding(each.code, Severity(each.severity), each.text) for each in found]


def space_of(manifest: Manifest, memory_bytes: int) -> VmSpace:
    """Return what a VM of the point, with this much memory, takes of a datastore."""
    return VmSpace(
        capacity_bytes=sum(disk.capacity_bytes for disk in manifest.disks),
        swap_bytes=memory_bytes,
        read_data_bytes=cache(lambda: _data_bytes(manifest)),
        adapters=count_adapters(read_description(manifest.description)),
    )


def count_adapters(description: MachineDescription) -> int:
    """Return how many network adapters a VM of the machine gets: at least one."""
    return max(1, len(description.nics))


def _data_bytes(manifest: Manifest) -> int:
    """Return what the disks hold; 0 if the chain cannot be read, which its proof will say."""
    store, total_bytes = open_store(), 0
    try:
        for disk in manifest.disks:
            with store.plan_export(manifest.machine_id, manifest.point_id, disk.number) as plan:
                total_bytes += plan.data_bytes
    except StoreError as error:
        logger.warning("space unknown point_id=%s error=%s", manifest.point_id, error)
        return 0
    return total_bytes


def export_facts(
    point: RecoveryPoint, manifest: Manifest, delegating: Iterable[str]
) -> ExportFacts:
    """Return the facts of a point that `check_point` judges.

    delegating: fingerprints of the cores that delegated the machine to this one.
    """
    return ExportFacts(
        point_state=point.state,
        damage_text=point.damage_text,
        description=read_description(manifest.description),
        fingerprints=[this_core().fingerprint, *delegating],
    )
