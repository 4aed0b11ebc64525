"""Forms for pairing with another core, and for the settings of a pairing."""

from typing import Any

from django import forms

from replication.models import Pairing


class CoreAddressForm(forms.Form):
    """The address of another core, whose certificate is shown before pairing."""

    host = forms.CharField(max_length=253, label="Address", help_text="Host name or IP address.")
    port = forms.IntegerField(
        min_value=1, max_value=65535, initial=8001, help_text="The port of its core interface."
    )


class TargetCoreForm(forms.Form):
    """The administrator of a target core who vouches for the pairing."""

    host = forms.CharField(max_length=253, widget=forms.HiddenInput)
    port = forms.IntegerField(min_value=1, max_value=65535, widget=forms.HiddenInput)
    fingerprint = forms.CharField(max_length=100, widget=forms.HiddenInput)
    username = forms.CharField(max_length=150, help_text="An administrator of the target core.")
    password = forms.CharField(
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Sent once over the connection shown above, and not stored.",
    )
    is_confirmed = forms.BooleanField(label="I have compared the fingerprint, and it matches.")


class PairingSettingsForm(forms.Form):
    """How this core reaches its peer, and the peer's name on this core's pages."""

    peer_name = forms.CharField(max_length=200, label="Name")
    host = forms.CharField(max_length=253, label="Address")
    port = forms.IntegerField(min_value=1, max_value=65535)

    def __init__(self, *args: Any, pairing: Pairing, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("peer_name", "host", "port"):
            self.fields[name].initial = getattr(pairing, name)


class SourceCoreForm(TargetCoreForm):
    """The administrator of a new source core, and the lost core that it replaces."""

    username = forms.CharField(max_length=150, help_text="An administrator of the source core.")
    replaces = forms.ChoiceField(
        required=False,
        label="Replaces",
        help_text="Machines of that core that run here will fail back to the new one.",
    )

    def __init__(self, *args: Any, lost: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["replaces"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "no other core"), *lost]
