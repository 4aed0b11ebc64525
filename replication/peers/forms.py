"""Forms for pairing with another core, and for the settings of a pairing."""

from typing import Any

from django import forms

from replication.models import Pairing

GIB = 1 << 30


class TargetCoreForm(forms.Form):
    """Where a target core answers, and its one-time code."""

    host = forms.CharField(max_length=253, label="Address", help_text="Host name or IP address.")
    port = forms.IntegerField(
        min_value=1, max_value=65535, initial=8001, help_text="The port of its core interface."
    )
    code = forms.CharField(
        max_length=100,
        label="Pairing code",
        help_text="Make one on the other core, under Settings → Pair another core.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


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
    """Where a new source core answers, its one-time code, and the lost core that it replaces."""

    SAME_ADDRESS, NO_CORE = "", "none"

    replaces = forms.ChoiceField(
        required=False,
        label="Replaces",
        help_text="Machines of that core that run here will fail back to the new one.",
    )

    def __init__(self, *args: Any, lost: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["replaces"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [
            (self.SAME_ADDRESS, "the core that was at this address, if any"),
            *lost,
            (self.NO_CORE, "no other core"),
        ]
