"""VMs that a job made and left behind: they carry its marker, it has ended, nothing refers to them.

A worker that was paused may act after another one has undone its step. Before each act it looks
whether it still holds the job, but nothing can look at the very moment. What slips through is found
here and shown on every page; a person removes it, because nobody can know what it is used for.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from console.identity import this_core
from console.isolation import isolate_each
from console.jobs.choices import JobState
from console.jobs.models import JobStep
from console.sections import Notice
from protected_machines.exports.vcenters import connect
from protected_machines.models import Machine, VCenter
from vsphere.errors import VSphereError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MarkedVm:
    """A VM in a vCenter that carries a marker of this core."""

    moid: str
    name: str
    marker: str


def strays_among(
    vms: Iterable[MarkedVm], undone: Mapping[str, str], kept: Collection[str]
) -> list[dict[str, str]]:
    """Return the VMs that no job and no machine answers for, as they are saved. Pure.

    undone: marker → id of jobs that failed, and so should have left nothing.
    kept: markers of the VMs that machines run in.
    """
    return [
        {"moid": vm.moid, "name": vm.name, "job_id": undone[vm.marker]}
        for vm in vms
        if vm.marker in undone and vm.marker not in kept
    ]


def find_stray_vms() -> None:
    """Look into every vCenter, and save what was found. Changes nothing there."""
    steps = JobStep.objects.filter(output__has_key="marker", job__state=JobState.FAILED)
    undone = {
        output["marker"]: str(job_id)
        for output, job_id in steps.values_list("output", "job_id")
        if output
    }
    kept = set(Machine.objects.exclude(vm_marker="").values_list("vm_marker", flat=True))

    def look(vcenter: VCenter) -> None:
        try:
            with connect(vcenter) as session:
                vms = session.find_marked_vms(f"understudy:{this_core().id}:")
        except VSphereError as error:
            logger.info("stray vms vcenter_id=%s error_code=%s", vcenter.pk, error.code)
            return
        marked = [MarkedVm(vm.moid, vm.name, vm.marker or "") for vm in vms]
        found = strays_among(marked, undone, kept)
        if found != vcenter.stray_vms:
            logger.warning("stray vms vcenter_id=%s found=%s", vcenter.pk, found)
            VCenter.objects.filter(pk=vcenter.pk).update(stray_vms=found)

    isolate_each(VCenter.objects.all(), look, "find_stray_vms")


def stray_notice() -> Notice | None:
    """Return what every page says while a vCenter has such VMs."""
    named = [
        f"{vm['name']} ({vm['moid']}) in {vcenter_name}, made by job {vm['job_id']}"
        for vcenter_name, vms in VCenter.objects.values_list("name", "stray_vms")
        for vm in vms
    ]
    if not named:
        return None
    text = (
        f"{'; '.join(named)}. The job has ended and should have left nothing. If nobody uses the "
        "VM, remove it in the vCenter; this notice then disappears within minutes."
    )
    return Notice("warn", "A job has left a VM behind", text, "EXPORT-VM-LEFT-BEHIND")
