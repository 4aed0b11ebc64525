"""Forms for a restore: the rescue machine, then the disks."""

from uuid import uuid4

from django import forms


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
