"""Forms for a restore: first the rescue machine, then its disks."""

from uuid import uuid4

from django import forms


class RescueAddressForm(forms.Form):
    """A rescue machine's address, and the code on its screen."""

    host = forms.CharField(
        max_length=253, label="Address", help_text="The address shown on the machine's screen."
    )
    port = forms.IntegerField(min_value=1, max_value=65535, initial=8006)
    code = forms.CharField(
        max_length=80,
        help_text="The one-time code shown on its screen.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class RestoreForm(forms.Form):
    """The rescue machine whose disks were shown, and what to do after the restore."""

    target_id = forms.UUIDField(widget=forms.HiddenInput)
    is_protected_there = forms.BooleanField(
        required=False,
        label="Protect the restored machine",
        help_text="From then on, this core contacts the machine at its new address.",
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)
