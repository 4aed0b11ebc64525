"""The forms of the Failback dialog: one for all machines, one for each."""

from uuid import uuid4

from django import forms

from console.forms import ReasonField
from replication.failback.order import COMMIT_DAYS_LIMIT


class FailbackForm(forms.Form):
    """What all machines of one failback share."""

    commit_days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=COMMIT_DAYS_LIMIT,
        label="Commit automatically after (days)",
        help_text=(
            "Empty: someone has to commit. Until then, the VMs are kept here, powered off, and you "
            "can roll back the failback."
        ),
    )
    reason = ReasonField()
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)


class FailbackMachineForm(forms.Form):
    """What is chosen for one machine: whether it fails back, and onto which rescue machine."""

    is_chosen = forms.BooleanField(required=False)
    host = forms.CharField(
        max_length=253, label="Rescue machine", help_text="The address shown on its screen."
    )
    port = forms.IntegerField(min_value=1, max_value=65535, initial=8006)
    code = forms.CharField(
        max_length=80,
        help_text="The one-time code shown on its screen.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
