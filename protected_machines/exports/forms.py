"""Forms for exporting a recovery point and for the vCenters it can go to."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from django import forms

from console.forms import ReasonField
from protected_machines.exports.options import (
    CPUS_LIMIT,
    MEMORY_LEAST_MIB,
    MEMORY_LIMIT_MIB,
    MEMORY_STEP_MIB,
    MIB,
    NAME_LENGTH,
    VmOptions,
)
from protected_machines.exports.places import Places, split_compute
from protected_machines.exports.start import ExportOrder
from protected_machines.models import Machine, RecoveryPoint, VCenter
from protected_machines.points.forms import point_text


class VmHardwareForm(forms.Form):
    """A VM's name, CPUs and memory."""

    vm_name = forms.CharField(max_length=NAME_LENGTH, label="VM name")
    cpus = forms.IntegerField(min_value=1, max_value=CPUS_LIMIT, label="CPUs")
    memory_mib = forms.IntegerField(
        min_value=MEMORY_LEAST_MIB,
        max_value=MEMORY_LIMIT_MIB,
        step_size=MEMORY_STEP_MIB,
        label="Memory (MiB)",
    )
    keeps_macs = forms.BooleanField(
        required=False,
        label="Keep the MAC addresses",
        help_text="Only if the original is off, or in another network.",
    )


class ExportForm(VmHardwareForm):
    """Which point becomes a VM, where, and with what name, CPUs and memory.

    The destinations offered are those that the chosen vCenter's datacenter has now.
    """

    point_id = forms.TypedChoiceField(coerce=UUID, label="Recovery point")
    vcenter_id = forms.TypedChoiceField(coerce=UUID, label="vCenter")
    datacenter = forms.ChoiceField()
    compute = forms.ChoiceField(label="Resource pool or host")
    folder = forms.ChoiceField(label="VM folder", required=False)
    datastore = forms.ChoiceField()
    network = forms.ChoiceField()
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(
        self,
        data: Any = None,
        *,
        points: Sequence[RecoveryPoint],
        vcenters: Sequence[VCenter],
        places: Places,
        initial: dict[str, Any],
    ) -> None:
        super().__init__(data, initial=initial)
        choices: dict[str, Sequence[tuple[Any, str]]] = {
            "point_id": [(point.pk, point_text(point)) for point in points],
            "vcenter_id": [(vcenter.pk, vcenter.name) for vcenter in vcenters],
            "datacenter": places.datacenters,
            "compute": places.computes,
            "folder": places.folders,
            "datastore": places.datastores,
            "network": places.networks,
        }
        for name, values in choices.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = values
            # A choice made for another vCenter does not exist in this one.
            if values and name not in initial:
                self.initial[name] = values[0][0]

    def order(self, machine: Machine) -> ExportOrder:
        """Return what the valid form asks for."""
        values = self.cleaned_data
        return ExportOrder(
            machine_id=machine.pk,
            point_id=values["point_id"],
            options=self._vm_options(),
            request_id=values["request_id"],
        )

    def _vm_options(self) -> VmOptions:
        values = self.cleaned_data
        resource_pool, host = split_compute(values["compute"])
        return VmOptions(
            vcenter_id=values["vcenter_id"],
            datacenter=values["datacenter"],
            resource_pool=resource_pool,
            host=host,
            folder=values["folder"],
            datastore=values["datastore"],
            network=values["network"],
            vm_name=values["vm_name"],
            cpus=values["cpus"],
            memory_bytes=values["memory_mib"] * MIB,
            keeps_macs=values["keeps_macs"],
        )


class VCenterAddressForm(forms.Form):
    """A vCenter's address; its certificate is shown before anything is sent there."""

    host = forms.CharField(
        max_length=253, label="Address", help_text="Address of a vCenter or stand-alone ESXi host."
    )
    port = forms.IntegerField(min_value=1, max_value=65535, initial=443)


class VCenterForm(forms.Form):
    """How to sign in to a vCenter whose certificate has been confirmed."""

    name = forms.CharField(max_length=200, help_text="Display name")
    host = forms.CharField(max_length=253, widget=forms.HiddenInput)
    port = forms.IntegerField(min_value=1, max_value=65535, widget=forms.HiddenInput)
    thumbprint = forms.CharField(max_length=200, widget=forms.HiddenInput)
    username = forms.CharField(max_length=200)
    password = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )
    is_confirmed = forms.BooleanField(label="I have compared the thumbprint, and it matches.")


class RemoveForm(forms.Form):
    """Why something is removed."""

    reason = ReasonField()


class VCenterPasswordForm(forms.Form):
    """Another account or password for a known vCenter."""

    username = forms.CharField(max_length=200)
    password = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )
