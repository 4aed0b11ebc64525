"""Every input of replication. A hidden request id makes a double click the same act."""

from typing import Any
from uuid import UUID, uuid4

from django import forms

from protected_machines.forms import FOLDER_HELP
from replication.models import Pairing


class CoreAddressForm(forms.Form):
    """Where another core answers; its certificate is shown before pairing."""

    host = forms.CharField(max_length=253, label="Address", help_text="Host name or address.")
    port = forms.IntegerField(
        min_value=1, max_value=65535, initial=8001, help_text="Of its core interface."
    )


class TargetCoreForm(forms.Form):
    """The administrator of a target core who vouches for the pairing."""

    host = forms.CharField(max_length=253, widget=forms.HiddenInput)
    port = forms.IntegerField(min_value=1, max_value=65535, widget=forms.HiddenInput)
    fingerprint = forms.CharField(max_length=100, widget=forms.HiddenInput)
    username = forms.CharField(max_length=150, help_text="Of an administrator of the target core.")
    password = forms.CharField(
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Sent once over the connection shown above, and not kept.",
    )
    is_confirmed = forms.BooleanField(label="I have compared the fingerprint, and it is right.")


class PairingSettingsForm(forms.Form):
    """How this core reaches its peer, and what it calls it."""

    peer_name = forms.CharField(max_length=200, label="Name")
    host = forms.CharField(max_length=253, label="Address")
    port = forms.IntegerField(min_value=1, max_value=65535)

    def __init__(self, *args: Any, pairing: Pairing, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("peer_name", "host", "port"):
            self.fields[name].initial = getattr(pairing, name)


class ChooseMachinesForm(forms.Form):
    """Machines of this core that are to be replicated to a target core."""

    machines = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one machine."},
    )

    def __init__(self, *args: Any, choices: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["machines"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = choices


class ChooseTargetForm(forms.Form):
    """The target core that one machine is to be replicated to."""

    pairing = forms.ChoiceField(label="Target core")

    def __init__(self, *args: Any, choices: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["pairing"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices


class SeedDriveForm(forms.Form):
    """Which machines' points go onto a seed drive, and where it lies on this core."""

    machines = forms.TypedMultipleChoiceField(
        coerce=UUID,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one machine."},
    )
    folder = forms.CharField(
        max_length=1000,
        help_text=FOLDER_HELP,
        widget=forms.TextInput(attrs={"placeholder": "/mnt/usb/seed", "spellcheck": "false"}),
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(self, *args: Any, choices: list[tuple[UUID, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["machines"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices


class FailoverForm(forms.Form):
    """Where machines go, and why: what all machines of one failover share."""

    vcenter = forms.ChoiceField(label="vCenter")
    datacenter = forms.ChoiceField()
    place = forms.ChoiceField(label="Resource pool or host")
    datastore = forms.ChoiceField()
    network = forms.ChoiceField()
    reason = forms.CharField(
        required=False,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Kept with the failover: who reads it later knows why.",
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(
        self, *args: Any, choices: dict[str, list[tuple[str, str]]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        for name, offered in choices.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = offered


class FailoverMachineForm(forms.Form):
    """What is chosen for one machine: whether it goes, from which point, and its VM."""

    is_chosen = forms.BooleanField(required=False)
    point = forms.ChoiceField(required=False, label="Recovery point")
    vm_name = forms.CharField(max_length=80, label="VM name")
    cpus = forms.IntegerField(min_value=1, max_value=128, label="CPUs")
    memory_mib = forms.IntegerField(min_value=64, max_value=12 * 1024 * 1024, label="Memory (MiB)")

    def __init__(self, *args: Any, points: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["point"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = points


class SourceCoreForm(TargetCoreForm):
    """The administrator of a new source core, and which lost one it stands in for."""

    username = forms.CharField(max_length=150, help_text="Of an administrator of the source core.")
    replaces = forms.ChoiceField(
        required=False,
        label="In place of",
        help_text="Machines of that core which run here fail back to the new one.",
    )

    def __init__(self, *args: Any, lost: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["replaces"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "no other core"), *lost]


class FailbackForm(forms.Form):
    """What all machines of one failback share."""

    commit_days = forms.IntegerField(
        min_value=1,
        max_value=90,
        initial=7,
        label="Commit after (days)",
        help_text="Until then the VMs stay here, powered off, and the failback can be rolled back.",
    )
    reason = forms.CharField(
        required=False,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Kept with the failback: who reads it later knows why.",
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)


class FailbackMachineForm(forms.Form):
    """What is chosen for one machine: whether it goes back, and onto which rescue machine."""

    is_chosen = forms.BooleanField(required=False)
    host = forms.CharField(max_length=253, label="Restore onto", help_text="Address it shows.")
    port = forms.IntegerField(min_value=1, max_value=65535, initial=8006)
    code = forms.CharField(
        max_length=80,
        help_text="The one-time code on the screen of the rescue medium.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
