"""Forms for pairing with another core, and for the settings of a pairing."""

from typing import Any

from django import forms

from replication.models import Pairing

GIB = 1 << 30


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
    quota_gib = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=1 << 30,
        label="Quota in GiB",
        help_text="How much of this core's store its recovery points may take. Empty for no limit.",
    )

    def __init__(self, *args: Any, pairing: Pairing, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("peer_name", "host", "port"):
            self.fields[name].initial = getattr(pairing, name)
        if pairing.is_outgoing:
            del self.fields["quota_gib"]
        elif pairing.quota_bytes is not None:
            self.fields["quota_gib"].initial = -(-pairing.quota_bytes // GIB)

    @property
    def quota_bytes(self) -> int | None:
        """The quota that was entered; none for no limit."""
        quota_gib = self.cleaned_data.get("quota_gib")
        return None if quota_gib is None else quota_gib * GIB


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
