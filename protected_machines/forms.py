"""Every input of protected machines. A hidden request id makes a double click the same job."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from django import forms

from protected_machines.choices import PointKind
from protected_machines.exports.places import Places, split_compute
from protected_machines.exports.plan import VmOptions
from protected_machines.models import Machine, RecoveryPoint, VCenter

INTERVALS = (
    (60, "Every minute"),
    (300, "Every 5 minutes"),
    (900, "Every 15 minutes"),
    (1800, "Every 30 minutes"),
    (3600, "Every hour"),
    (4 * 3600, "Every 4 hours"),
    (12 * 3600, "Every 12 hours"),
    (24 * 3600, "Every day"),
)

FOLDER_HELP = (
    "By its full path on this core. A folder that is not there is made; an archive that is there "
    "gets what it lacks."
)


def interval_choices(current_seconds: int | None = None) -> list[tuple[int, str]]:
    """Return the intervals offered, with the one in force among them."""
    choices = list(INTERVALS)
    if current_seconds is not None and current_seconds not in dict(choices):
        choices.append((current_seconds, f"Every {current_seconds} seconds"))
        choices.sort()
    return choices


class ProtectMachineForm(forms.Form):
    """Where a machine's agent answers, and its one-time code."""

    name = forms.CharField(max_length=200, help_text="As it is to be called in this console.")
    host = forms.CharField(
        max_length=253, label="Address", help_text="Host name or address of the machine's agent."
    )
    port = forms.IntegerField(min_value=1, max_value=65535, initial=8006)
    code = forms.CharField(
        max_length=100,
        label="Pairing code",
        help_text="The one-time code that the agent printed when it was installed.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    interval_seconds = forms.TypedChoiceField(
        coerce=int, choices=interval_choices, initial=3600, label="Snapshot"
    )


class ScheduleForm(forms.Form):
    """How often a machine's recovery points are taken."""

    interval_seconds = forms.TypedChoiceField(coerce=int, label="Snapshot")

    def __init__(self, *args: Any, machine: Machine, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["interval_seconds"]
        assert isinstance(field, forms.TypedChoiceField)
        field.choices = interval_choices(machine.snapshot_interval_seconds)
        field.initial = machine.snapshot_interval_seconds


class SnapshotForm(forms.Form):
    """The kind of a forced snapshot."""

    kind = forms.ChoiceField(
        choices=[
            (PointKind.INCREMENTAL, "Incremental"),
            (PointKind.BASE_IMAGE, "Base image"),
        ],
        initial=PointKind.INCREMENTAL,
        widget=forms.RadioSelect,
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)


class ExportForm(forms.Form):
    """Which point becomes a VM, where, and with what name, CPUs and memory.

    The choices of a place are those of the chosen vCenter's datacenter, now.
    """

    point_id = forms.TypedChoiceField(coerce=UUID, label="Recovery point")
    vcenter_id = forms.TypedChoiceField(coerce=UUID, label="vCenter")
    datacenter = forms.ChoiceField()
    compute = forms.ChoiceField(label="Resource pool or host")
    datastore = forms.ChoiceField()
    network = forms.ChoiceField()
    vm_name = forms.CharField(max_length=80, label="Name")
    cpus = forms.IntegerField(min_value=1, max_value=768, label="CPUs")
    memory_mib = forms.IntegerField(min_value=4, max_value=24 * 1024**2, label="Memory (MiB)")
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
            "datastore": places.datastores,
            "network": places.networks,
        }
        for name, values in choices.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = values
            # What was typed into a form for another vCenter does not fit this one.
            if values and name not in initial:
                self.initial[name] = values[0][0]

    def clean_memory_mib(self) -> int:
        memory_mib = int(self.cleaned_data["memory_mib"])
        if memory_mib % 4:
            raise forms.ValidationError("vSphere wants a multiple of 4.")
        return memory_mib

    def vm_options(self) -> VmOptions:
        """Return the valid form's place and hardware."""
        values = self.cleaned_data
        resource_pool, host = split_compute(values["compute"])
        return VmOptions(
            vcenter_id=values["vcenter_id"],
            datacenter=values["datacenter"],
            resource_pool=resource_pool,
            host=host,
            datastore=values["datastore"],
            network=values["network"],
            vm_name=values["vm_name"],
            cpus=values["cpus"],
            memory_bytes=values["memory_mib"] * 1024**2,
        )


def point_text(point: RecoveryPoint) -> str:
    """Return how a point is offered in a list of choices."""
    kind = point.get_kind_display()
    return f"{point.taken_at:%Y-%m-%d %H:%M:%S} UTC, {kind}, {point.get_state_display().lower()}"


class ArchiveForm(forms.Form):
    """Which points go into an archive, and where it lies on this core."""

    point_id = forms.TypedChoiceField(
        coerce=UUID, empty_value=None, required=False, label="Recovery points"
    )
    folder = forms.CharField(
        max_length=1000,
        help_text=FOLDER_HELP,
        widget=forms.TextInput(attrs={"placeholder": "/mnt/usb/archive", "spellcheck": "false"}),
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(
        self, data: Any = None, *, points: Sequence[RecoveryPoint], all_text: str, **kwargs: Any
    ) -> None:
        super().__init__(data, **kwargs)
        field = self.fields["point_id"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [
            ("", all_text),
            *((point.pk, f"{point_text(point)}, and what it builds on") for point in points),
        ]


class ArchiveFolderForm(forms.Form):
    """Where an archive that is to be read lies on this core."""

    folder = forms.CharField(
        max_length=1000,
        help_text="By its full path on this core.",
        widget=forms.TextInput(attrs={"placeholder": "/mnt/usb/archive", "spellcheck": "false"}),
    )


class ImportArchiveForm(forms.Form):
    """Which of an archive's machines are imported, and up to which point where it is one."""

    folder = forms.CharField(max_length=1000, widget=forms.HiddenInput)
    machines = forms.TypedMultipleChoiceField(
        coerce=UUID,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one machine."},
    )
    point_id = forms.TypedChoiceField(
        coerce=UUID, empty_value=None, required=False, label="Recovery points"
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(
        self,
        data: Any = None,
        *,
        machines: Sequence[tuple[UUID, str]],
        points: Sequence[tuple[Any, str]],
        **kwargs: Any,
    ) -> None:
        super().__init__(data, **kwargs)
        for name, choices in (("machines", machines), ("point_id", points)):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = choices


class RescueAddressForm(forms.Form):
    """Where a machine that runs the rescue medium answers, and the code on its screen."""

    host = forms.CharField(max_length=253, label="Address", help_text="As the machine shows it.")
    port = forms.IntegerField(min_value=1, max_value=65535, initial=8006)
    code = forms.CharField(
        max_length=80,
        help_text="The one-time code on the screen of the rescue medium.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class RestoreForm(forms.Form):
    """The rescue machine whose disks a person has looked at, and what comes after."""

    target_id = forms.UUIDField(widget=forms.HiddenInput)
    is_protected_there = forms.BooleanField(
        required=False,
        label="Protect the machine at its new place",
        help_text="Its network connection details become those of the restored machine.",
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)


class VCenterAddressForm(forms.Form):
    """Where a vCenter answers; its certificate is shown before anything is sent there."""

    host = forms.CharField(max_length=253, label="Address", help_text="vCenter or stand-alone ESXi")
    port = forms.IntegerField(min_value=1, max_value=65535, initial=443)


class VCenterForm(forms.Form):
    """How to sign in to a vCenter whose certificate a person has confirmed."""

    name = forms.CharField(max_length=200, help_text="As it is to be called in this console.")
    host = forms.CharField(max_length=253, widget=forms.HiddenInput)
    port = forms.IntegerField(min_value=1, max_value=65535, widget=forms.HiddenInput)
    thumbprint = forms.CharField(max_length=200, widget=forms.HiddenInput)
    username = forms.CharField(max_length=200)
    password = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )
    is_confirmed = forms.BooleanField(label="I have compared the thumbprint, and it is right.")


class VCenterPasswordForm(forms.Form):
    """Another account or password for a vCenter that is known."""

    username = forms.CharField(max_length=200)
    password = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )
