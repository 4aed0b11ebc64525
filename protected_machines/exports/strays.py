"""VMs that a job made and left behind: they carry its marker, it has ended, nothing refers to them.

A worker that was paused may act after another one has undone its step. Before each act it looks
whether it still holds the job, but nothing can look at the very moment. What slips through is found
here and shown on every page; a person removes it, because nobody can know what it is used for.

A VM whose import never finished is of no use to anybody. It is what a server that did not answer in
time kept of a cancelled import, and is removed here.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from console.identity import this_core
from console.isolation import isolate_each
from console.jobs.choices import JobState
from console.jobs.models import JobStep
from console.sections import Notice
from protected_machines.errors import ProtectedMachinesError
from protected_machines.exports.vcenters import lend_session
from protected_machines.models import Machine, VCenter
from vsphere import Vm
from vsphere.errors import VSphereError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MarkedVm:
    """A VM in a vCenter that carries a marker of this core."""

    moid: str
    name: str
    marker: str
    is_complete: bool = True


def strays_among(
    vms: Iterable[MarkedVm], undone: Mapping[str, str], kept: Collection[str]
) -> list[dict[str, Any]]:
    """Return the VMs that no job and no machine answers for, as they are saved. Pure.

    undone: marker → id of jobs that failed, and so should have left nothing.
    kept: markers of the VMs that machines run in.
    """
    return [
        {
            "moid": vm.moid,
            "name": vm.name,
            "job_id": undone[vm.marker],
            "is_complete": vm.is_complete,
        }
        for vm in vms
        if vm.marker in undone and vm.marker not in kept
    ]


def find_stray_vms() -> None:
    """Look into every vCenter, remove what no job finished, and save what is left."""
    steps = JobStep.objects.filter(output__has_key="marker", job__state=JobState.FAILED)
    undone = {
        output["marker"]: str(job_id)
        for output, job_id in steps.values_list("output", "job_id")
        if output
    }
    kept = set(Machine.objects.exclude(vm_marker="").values_list("vm_marker", flat=True))

    def look(vcenter: VCenter) -> None:
        try:
            with lend_session(vcenter, "understudy-stray-vms") as session:
                vms = session.find_marked_vms(f"understudy:{this_core().id}:")
                left = [vm for vm in vms if not _is_removed(vm, undone, kept)]
        except (VSphereError, ProtectedMachinesError) as error:
            logger.info("stray vms vcenter_id=%s error_code=%s", vcenter.pk, error.code)
            return
        marked = [MarkedVm(vm.moid, vm.name, vm.marker or "", vm.is_complete) for vm in left]
        found = strays_among(marked, undone, kept)
        if found != vcenter.stray_vms:
            logger.warning("stray vms vcenter_id=%s found=%s", vcenter.pk, found)
            VCenter.objects.filter(pk=vcenter.pk).update(stray_vms=found)

    isolate_each(VCenter.objects.all(), look, "find_stray_vms")


def _is_removed(vm: Vm, undone: Mapping[str, str], kept: Collection[str]) -> bool:
    """Remove a VM whose import never finished, if its job has ended; return whether it is gone."""
    marker = vm.marker or ""
    if vm.is_complete or marker not in undone or marker in kept:
        return False
    try:
        vm.destroy(marker)
    except VSphereError as error:  # vSphere may hold it until its lease runs out
        logger.info("half vm stays moid=%s error_code=%s", vm.moid, error.code)
        return False
    logger.warning("half vm removed moid=%s job=%s", vm.moid, undone[marker])
    return True


def stray_notice() -> Notice | None:
    """Return what every page says while a vCenter has such VMs."""
    complete: list[str] = []
    half: list[str] = []
    for vcenter_name, vms in VCenter.objects.values_list("name", "stray_vms"):
        for vm in vms:
            named = f"{vm['name']} ({vm['moid']}) in {vcenter_name}, made by job {vm['job_id']}"
            (complete if vm.get("is_complete", True) else half).append(named)
    texts = []
    if complete:
        texts.append(
            f"{'; '.join(complete)}. The job has ended and should have left nothing. If nobody "
            "uses the VM, remove it in the vCenter; this notice then disappears within minutes."
        )
    if half:
        texts.append(
            f"{'; '.join(half)}. The job has ended, but vSphere did not remove what was made of "
            "the VM. Understudy tries again every five minutes."
        )
    if not texts:
        return None
    return Notice("warn", "A job has left a VM behind", " ".join(texts), "EXPORT-VM-LEFT-BEHIND")
