"""Make a VM of a recovery point: findings beforehand, and the step functions of it.

The functions take ids and plain choices, so that export, failover and test failover share them.
Each says its Effect, why it is Idempotent, its Undo and what it Fails with; none knows a job.
"""

import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.findings import Finding, Severity, errors_first
from console.identity import this_core
from console.jobs.workflow import StepFailed, Waiting
from protected_machines.choices import PointState
from protected_machines.errors import PointNotFound
from protected_machines.exports.vcenters import connect
from protected_machines.models import Machine, RecoveryPoint, VCenter
from protected_machines.points.proofs import prove_whole_chain
from protected_machines.points.store import open_store
from recovery_store.manifest import Manifest
from vsphere import DiskUpload, Placement, Session, Vm, VmDisk, VmNic, VmSpec
from vsphere.errors import VmBusy

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
CheckCancel = Callable[[], None]

# Disk controllers by the driver that a guest's initramfs must hold to find its root disk, the
# fastest first. The names are those of vsphere.VmDisk.controller.
CONTROLLERS_BY_DRIVER = (
    ("vmw_pvscsi", "pvscsi"),
    ("mptspi", "lsilogic"),
    ("mptsas", "lsilogicsas"),
    ("nvme", "nvme"),
    ("ahci", "sata"),
)


@dataclass(frozen=True)
class VmOptions:
    """Where a VM goes and what it is called. Managed object ids, and choices of a person."""

    vcenter_id: UUID
    datacenter: str
    # One of the two; a host alone means its own root resource pool.
    resource_pool: str
    host: str
    datastore: str
    network: str
    vm_name: str
    cpus: int
    memory_bytes: int

    @property
    def placement(self) -> Placement:
        return Placement(
            datacenter=self.datacenter,
            resource_pool=self.resource_pool,
            host=self.host or None,
            datastore=self.datastore,
            folder=None,
            network=self.network,
        )


@dataclass(frozen=True)
class ExportFacts:
    """What speaks for or against exporting a point, gathered beforehand."""

    point_state: str
    damage_text: str
    description: dict[str, Any]
    this_core_fingerprint: str


def choose_controller(initramfs_drivers: Iterable[str]) -> str | None:
    """Return the fastest disk controller whose driver the guest starts with; none when none is."""
    drivers = {driver.replace("-", "_") for driver in initramfs_drivers}
    for driver, controller in CONTROLLERS_BY_DRIVER:
        if driver in drivers:
            return controller
    return None


def plan_export(
    facts: ExportFacts, placement_findings: Sequence[Finding] = (), *, needs_agent: bool = False
) -> list[Finding]:
    """Return what speaks against the export, errors first. Pure.

    `needs_agent`: the machine is to be protected here once it runs, so its agent must answer
    this core.
    """
    findings = [*_point_findings(facts), *_guest_findings(facts.description)]
    if needs_agent and not _trusts(facts.description, facts.this_core_fingerprint):
        findings.append(
            Finding.error(
                "EXPORT-CORE-NOT-TRUSTED",
                "The agent inside this recovery point does not trust this core yet, so the "
                "machine could not be protected here. Choose a later recovery point.",
            )
        )
    findings.extend(placement_findings)
    return errors_first(findings)


def _point_findings(facts: ExportFacts) -> list[Finding]:
    if facts.point_state == PointState.DAMAGED:
        text = f"The recovery point is damaged: {facts.damage_text}. Choose another."
        return [Finding.error("EXPORT-POINT-DAMAGED", text)]
    if facts.point_state == PointState.UNPROVEN:
        text = "The recovery point was not proven yet; it is proven before anything is made of it."
        return [Finding.warning("EXPORT-POINT-UNPROVEN", text)]
    return []


def _guest_findings(description: dict[str, Any]) -> list[Finding]:
    findings = []
    drivers = description.get("initramfs_drivers") or []
    controller = choose_controller(drivers)
    if not drivers:
        text = (
            "The recovery point does not say which drivers the guest starts with; the VM gets a "
            "pvscsi controller."
        )
        findings.append(Finding.warning("EXPORT-DRIVERS-UNKNOWN", text))
    elif controller is None:
        text = (
            "The guest's initramfs holds no driver for a disk controller that vSphere offers "
            "(vmw_pvscsi, mptspi, mptsas, nvme, ahci). It will not find its root disk. Add one "
            "of them on the machine and take a new recovery point."
        )
        findings.append(Finding.error("EXPORT-NO-DISK-DRIVER", text))
    elif controller != "pvscsi":
        text = (
            "The guest's initramfs holds no vmw_pvscsi driver; the VM gets a "
            f"{controller} controller, which is slower."
        )
        findings.append(Finding.warning("EXPORT-OTHER-CONTROLLER", text))
    if description.get("firmware") == "efi":
        text = (
            "The machine starts by EFI. Its boot entries are not on its disks, so the disk must "
            "hold the fallback loader EFI/BOOT/BOOTX64.EFI."
        )
        findings.append(Finding.warning("EXPORT-EFI-BOOT-ENTRIES", text))
    return findings


def _trusts(description: dict[str, Any], fingerprint: str) -> bool:
    trusted = description.get("trusted_cores") or []
    return any(core.get("fingerprint") == fingerprint for core in trusted)


def check_export(
    machine: Machine, point: RecoveryPoint, options: VmOptions, *, needs_agent: bool = False
) -> list[Finding]:
    """Gather the facts in the store and at the vCenter, and return the findings.

    Raises:
        PointNotFound: the point is not in the store.
        VSphereError: the vCenter cannot be asked.
    """
    manifest = get_manifest(machine.pk, point.pk)
    with connect(get_vcenter(options.vcenter_id)) as session:
        found = check_placement(
            session,
            options.placement,
            options.vm_name,
            sum(disk.capacity_bytes for disk in manifest.disks),
        )
    return plan_export(export_facts(point, manifest), found, needs_agent=needs_agent)


def check_placement(
    session: Session, placement: Placement, vm_name: str, needed_bytes: int
) -> list[Finding]:
    """Return what the vCenter says against making a VM of that name and size there.

    Raises:
        VSphereError: it cannot be asked.
    """
    found = session.check_placement(placement, vm_name, needed_bytes)
    return [Finding(each.code, Severity(each.severity), each.text) for each in found]


def export_facts(point: RecoveryPoint, manifest: Manifest) -> ExportFacts:
    """Return the facts of a point that `plan_export` judges."""
    return ExportFacts(
        point_state=point.state,
        damage_text=point.damage_text,
        description=manifest.description,
        this_core_fingerprint=this_core().fingerprint,
    )


def get_manifest(machine_id: UUID | str, point_id: UUID | str) -> Manifest:
    """Return the manifest of a point of a machine.

    Raises:
        PointNotFound: the store does not hold it.
    """
    manifest = open_store().find_point(str(point_id))
    if manifest is None or manifest.machine_id != str(machine_id):
        raise PointNotFound(
            f"Recovery point {point_id} of machine {machine_id} is not in this core's store. "
            "Choose another."
        )
    return manifest


def get_vcenter(vcenter_id: UUID | str) -> VCenter:
    """Return the vCenter.

    Raises:
        StepFailed: it was removed from this core's settings.
    """
    vcenter = VCenter.objects.filter(pk=vcenter_id).first()
    if vcenter is None:
        raise StepFailed(
            "MACHINE-VCENTER-MISSING",
            f"The vCenter {vcenter_id} is no longer among this core's settings.",
        )
    return vcenter


def prove_chain(
    machine_id: UUID | str,
    point_id: UUID | str,
    progress: Progress | None = None,
    check_cancel: CheckCancel | None = None,
) -> dict[str, Any]:
    """Prove the point and everything it builds on, by the store's own digests.

    Effect: none outside; the index says proven or damaged afterwards.
    Idempotent because: it reads.
    Undo: nothing to undo.
    Fails with: STORE-… naming what is damaged or missing, and the points that are still good.
    """
    manifest = get_manifest(machine_id, point_id)

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        if check_cancel is not None:
            check_cancel()
        if progress is not None:
            progress(done_bytes, total_bytes)

    proof = prove_whole_chain(machine_id, point_id, on_progress)
    return {"manifest_digest": manifest.digest, "points": proof.points}


def reserve_vm() -> dict[str, Any]:
    """Make the marker by which the VM to come is known as this job's own.

    Effect: none outside; the marker is saved as the step's output before anything is made.
    Idempotent because: a marker that nothing was made with is as good as another.
    Undo: nothing to undo.
    Fails with: nothing.
    """
    return {"marker": f"understudy:{this_core().id}:{uuid.uuid4()}"}


def vm_spec(manifest: Manifest, options: VmOptions) -> VmSpec:
    """Return the virtual hardware for a point: the source's disks and NICs, under fast drivers."""
    description = manifest.description
    controller = choose_controller(description.get("initramfs_drivers") or []) or "pvscsi"
    disks = [
        VmDisk(number=disk.number, capacity_bytes=disk.capacity_bytes, controller=controller)
        for disk in manifest.disks
    ]
    nics = [VmNic(network=options.network) for _ in description.get("nics") or [{}]]
    return VmSpec(
        name=options.vm_name,
        guest_id="otherLinux64Guest",
        firmware=description.get("firmware") or "bios",
        cpus=options.cpus,
        memory_bytes=options.memory_bytes,
        disks=disks,
        nics=nics,
    )


def import_vm(
    machine_id: UUID | str,
    point_id: UUID | str,
    options: VmOptions,
    marker: str,
    progress: Progress,
    check_cancel: CheckCancel,
) -> dict[str, Any]:
    """Make the VM of the point at the vCenter, its disks uploaded.

    Effect: one VM, powered off, that bears the marker.
    Idempotent because: it looks for the marker first; a complete VM is adopted.
    Undo: `undo_import_vm`.
    Fails with: VSPHERE-…, STORE-…; whatever was half there is removed.
    """
    manifest = get_manifest(machine_id, point_id)
    with connect(get_vcenter(options.vcenter_id)) as session, ExitStack() as plans:
        found = session.find_vm_by_marker(marker)
        if found is not None and found.is_complete:
            logger.info("import vm adopted marker=%s moid=%s", marker, found.moid)
            return {"vm_moid": found.moid, "vm_name": found.name}
        if found is not None:
            _remove_half_vm(found, marker)
        moid = session.import_vm(
            vm_spec(manifest, options),
            _plan_uploads(manifest, plans),
            options.placement,
            marker,
            progress,
            check_cancel,
        )
        return {"vm_moid": moid, "vm_name": session.get_vm(moid).name}


def _remove_half_vm(vm: Vm, marker: str) -> None:
    """Remove what a worker that died in mid-upload left.

    Raises:
        Waiting: vSphere still holds it for that upload, and will until its lease runs out.
    """
    try:
        vm.destroy(marker)
    except VmBusy as error:
        raise Waiting(
            "vSphere still holds the VM of an upload that broke off; it lets go of it in a few "
            "minutes.",
            again_in_seconds=10,
        ) from error


def _plan_uploads(manifest: Manifest, plans: ExitStack) -> list[DiskUpload]:
    """Return what to send of each disk; `plans` keeps the files open until all is sent."""
    store = open_store()
    uploads = []
    for disk in manifest.disks:
        plan = plans.enter_context(
            store.plan_export(manifest.machine_id, manifest.point_id, disk.number)
        )
        uploads.append(DiskUpload(disk.number, plan.length_bytes, plan.read_chunks))
    return uploads


def undo_import_vm(vcenter_id: UUID | str, marker: str) -> None:
    """Remove the VM that bears the marker, powered off first. Already gone is as good."""
    with connect(get_vcenter(vcenter_id)) as session:
        vm = session.find_vm_by_marker(marker)
        if vm is None:
            return
        vm.power_off()
        vm.destroy(marker)
