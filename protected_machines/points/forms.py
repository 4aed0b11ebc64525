"""The form for a forced snapshot, and how other forms list recovery points."""

from uuid import uuid4

from django import forms

from protected_machines.choices import PointKind
from protected_machines.models import RecoveryPoint


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


def point_text(point: RecoveryPoint) -> str:
    """Return how a list of choices shows a point."""
    kind = point.get_kind_display()
    return f"{point.taken_at:%Y-%m-%d %H:%M:%S} UTC, {kind}, {point.get_state_display().lower()}"
