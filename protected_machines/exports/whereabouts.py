"""What a person can see of a machine that a job looks for, and say where it is.

Shown at a step that waits for the machine: the screen of its VM, and a form for its address.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django import forms
from django.urls import reverse
from django.utils import timezone

from console.jobs.choices import StepState
from console.jobs.models import Job, JobStep
from protected_machines.exports.job_vm import identity_in
from protected_machines.exports.vcenters import connect, get_vcenter
from protected_machines.models import Machine, TypedAddress

# Steps of any workflow in which `finding.find_agent` looks for the machine of the job.
_IN_A_VM = frozenset({"wait_for_guest", "reboot_guest", "wait_for_agent"})
# The machine was restored onto a computer; if it also has a VM, that is not looked for.
_ON_A_COMPUTER = frozenset({"wait_for_machine", "boot_machine"})
_SEARCHING = _IN_A_VM | _ON_A_COMPUTER
_NAME = re.compile(r"[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?(\.[0-9A-Za-z-]+)*\.?")


class AddressForm(forms.Form):
    """Where the machine is."""

    host = forms.CharField(label="Address", max_length=253)
    port = forms.IntegerField(min_value=1, max_value=65535)

    def clean_host(self) -> str:
        """Accept an address or a name that can be one."""
        host: str = self.cleaned_data["host"].strip().strip("[]")
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            pass
        if not _NAME.fullmatch(host) or host.replace(".", "").isdigit():
            raise forms.ValidationError("Enter an IP address or a host name.")
        return host


def searching_step(job: Job) -> JobStep | None:
    """Return the step in which the job looks for its machine now; none if it does not."""
    for step in job.steps.all():
        if step.name == job.current_step and step.name in _SEARCHING:
            return step if step.state in (StepState.RUNNING, StepState.WAITING) else None
    return None


def show_whereabouts(job: Job, step: JobStep) -> Mapping[str, Any] | None:
    """Return what to show at a step that looks for the job's machine; none at any other."""
    if searching_step(job) != step:
        return None
    machine = Machine.objects.filter(pk=job.subject_id).first()
    if machine is None:
        return None
    return {
        "form": AddressForm(auto_id=f"address-{job.pk}-%s", initial={"port": machine.port}),
        "form_id": f"address-{job.pk}",
        "typed": TypedAddress.objects.filter(job=job).first(),
        "address_url": reverse("protected_machines:job-address", args=[job.pk]),
        "screen_url": reverse("protected_machines:job-screen", args=[job.pk]),
        "picture_url": reverse("protected_machines:job-screenshot", args=[job.pk]),
        "has_vm": _vm_of(job) is not None,
    }


def keep_address(job: Job, host: str, port: int, typed_by: str) -> None:
    """Have the job look for its machine there, too. The newest address counts."""
    TypedAddress.objects.update_or_create(
        job=job,
        defaults={"host": host, "port": port, "typed_by": typed_by, "typed_at": timezone.now()},
    )


def take_screenshot(job: Job) -> bytes | None:
    """Return the screen of the job's VM as PNG; none if the job has no VM.

    Fails with VSPHERE-….
    """
    found = _vm_of(job)
    if found is None:
        return None
    vcenter_id, moid = found
    with connect(get_vcenter(vcenter_id)) as session:
        return session.take_screenshot(moid)


def _vm_of(job: Job) -> tuple[UUID | str, str] | None:
    """Return the vCenter and the VM in which the job's machine starts."""
    if job.current_step in _ON_A_COMPUTER:
        return None
    options = job.params.get("options") or {}
    for step in job.steps.all():
        identity = identity_in(step.output or {})
        if identity is not None and options.get("vcenter_id"):
            return options["vcenter_id"], identity.moid
    machine = Machine.objects.filter(pk=job.subject_id).exclude(vcenter=None).first()
    if machine is None or machine.vcenter_id is None or not machine.vm_moid:
        return None
    return machine.vcenter_id, machine.vm_moid
