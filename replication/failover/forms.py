"""The forms of the Fail Over dialog: one for all machines, one for each."""

from typing import Any
from uuid import uuid4

from django import forms

from console.forms import ReasonField
from protected_machines.exports.forms import VmHardwareForm


class FailoverForm(forms.Form):
    """What all machines of one failover share: where they go, and why."""

    vcenter = forms.ChoiceField(label="vCenter")
    datacenter = forms.ChoiceField()
    compute = forms.ChoiceField(label="Resource pool or host")
    folder = forms.ChoiceField(label="VM folder", required=False)
    datastore = forms.ChoiceField()
    network = forms.ChoiceField()
    reason = ReasonField()
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(
        self, *args: Any, choices: dict[str, list[tuple[str, str]]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        for name, offered in choices.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = offered


class FailoverMachineForm(VmHardwareForm):
    """What is chosen for one machine: whether it fails over, from which point, and its VM."""

    is_chosen = forms.BooleanField(required=False)
    point = forms.ChoiceField(required=False, label="Recovery point")

    def __init__(self, *args: Any, points: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["point"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = points
