"""Make a VM of a recovery point."""

import logging
import uuid
from contextlib import ExitStack, closing
from uuid import UUID

from console.identity import this_core
from console.jobs.report import Report
from console.jobs.workflow import Waiting
from protected_machines.exports.check import choose_controller
from protected_machines.exports.job_vm import ImportedVm, JobVm
from protected_machines.exports.options import VmOptions
from protected_machines.exports.settings_disk import with_settings_disk
from protected_machines.exports.upload_line import SharedUploadLine
from protected_machines.exports.vcenters import get_vcenter, lend_session, until_it_answers
from protected_machines.models.descriptions import read_description
from protected_machines.points.proofs import get_manifest
from protected_machines.points.store import open_store
from recovery_store.manifest import Manifest
from vsphere import DiskUpload, Vm, VmDisk, VmNic, VmSpec
from vsphere.errors import VmBusy
from vsphere.spec import why_not_kept

logger = logging.getLogger(__name__)


def new_marker() -> str:
    """Generate the marker by which a job will recognize its VM."""
    return f"understudy:{this_core().id}:{uuid.uuid4()}"


def vm_spec(manifest: Manifest, options: VmOptions, disk_step_bytes: int = 512) -> VmSpec:
    """Return the virtual hardware for a point: the machine's disks and NICs, with fast drivers.

    The boot disk comes first: a BIOS starts from no other.
    disk_step_bytes: the size of each disk is rounded up to a multiple of this.
    """
    description = read_description(manifest.description)
    controller = choose_controller(description.initramfs_drivers) or "pvscsi"
    boot_keys = {disk.key for disk in description.disks if disk.is_boot}
    disks = [
        VmDisk(
            number=disk.number,
            capacity_bytes=-(-disk.capacity_bytes // disk_step_bytes) * disk_step_bytes,
            controller=controller,
        )
        for disk in sorted(manifest.disks, key=lambda disk: disk.key not in boot_keys)
    ]
    macs = [card.mac if options.keeps_macs else "" for card in description.nics] or [""]
    networks = [*options.nic_networks, *[options.network] * len(macs)]
    nics = [
        VmNic(network=network, mac=mac if mac and not why_not_kept(mac) else None)
        for mac, network in zip(macs, networks, strict=False)
    ]
    return VmSpec(
        name=options.vm_name,
        guest_id="otherLinux64Guest",
        firmware=description.firmware or "bios",
        cpus=options.cpus,
        cores_per_socket=cores_per_socket(options.cpus, description.sockets),
        memory_bytes=options.memory_bytes,
        disks=disks,
        nics=nics,
    )


def cores_per_socket(cpus: int, sockets: int) -> int:
    """Return how many cores each socket of a VM has: in as many sockets as before, if they fit."""
    return cpus // sockets if sockets and cpus % sockets == 0 else 1


def import_vm(
    machine_id: UUID, point_id: UUID, options: VmOptions, vm: JobVm, report: Report
) -> ImportedVm:
    """Create a job's VM of the point in vSphere, and upload its disks.

    Idempotent: a complete VM with the job's marker is adopted, a half-made one is replaced.
    Fails with VSPHERE-…, STORE-…; a half-made VM is removed.
    """
    manifest = get_manifest(machine_id, point_id)
    vcenter = get_vcenter(vm.vcenter_id)
    with ExitStack() as plans:
        with until_it_answers(vcenter):
            session = plans.enter_context(lend_session(vcenter, vm.operation))
            found = session.find_vm(vm.marker, vm.identity)
        if found is not None and found.is_complete:
            logger.info("import vm adopted marker=%s moid=%s", vm.marker, found.moid)
            return ImportedVm(found.identity, found.name)
        vm.check()
        if found is not None:
            _remove_half_vm(found, vm.marker)
            vm.check()
        with until_it_answers(vcenter):
            step_bytes = session.disk_step_bytes(options.datastore)
        machine_spec = vm_spec(manifest, options, step_bytes)
        spec, settings = with_settings_disk(machine_spec, manifest, vcenter)
        moid = session.import_vm(
            spec,
            [*_uploads_of(manifest, plans, step_bytes), *settings],
            options.placement,
            vm.marker,
            report.progress,
            report.check_cancel,
            line=plans.enter_context(closing(SharedUploadLine())),
            note=report.note,
        )
        with until_it_answers(vcenter):  # the next attempt finds it by its marker
            made = session.get_vm(moid)
        return ImportedVm(made.identity, made.name)


def _remove_half_vm(vm: Vm, marker: str) -> None:
    """Remove the VM that a worker left when it died in mid-upload.

    Raises:
        Waiting: vSphere holds it until the lease of that upload expires.
    """
    try:
        vm.destroy(marker)
    except VmBusy as error:
        raise Waiting(
            "vSphere still holds the VM of an interrupted upload. It releases it within "
            "a few minutes.",
            again_in_seconds=10,
        ) from error


def _uploads_of(manifest: Manifest, plans: ExitStack, step_bytes: int) -> list[DiskUpload]:
    """Return the upload of each disk; `plans` keeps the files open until all is sent."""
    store = open_store()
    uploads = []
    for disk in manifest.disks:
        plan = plans.enter_context(
            store.plan_export(manifest.machine_id, manifest.point_id, disk.number, step_bytes)
        )
        uploads.append(DiskUpload(disk.number, plan.length_bytes, plan.read_chunks))
    return uploads
