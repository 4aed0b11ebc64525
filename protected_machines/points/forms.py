"""The form for a forced snapshot."""

from uuid import uuid4

from django import forms

from protected_machines.choices import PointKind


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
