"""Forms for protecting a machine and for its schedule."""

from typing import Any

from django import forms

from protected_machines.models import Machine

INTERVALS = (
    (60, "Every minute"),
    (300, "Every 5 minutes"),
    (900, "Every 15 minutes"),
    (1800, "Every 30 minutes"),
    (3600, "Every hour"),
    (4 * 3600, "Every 4 hours"),
    (12 * 3600, "Every 12 hours"),
    (24 * 3600, "Every day"),
)


def interval_choices(current_seconds: int | None = None) -> list[tuple[int, str]]:
    """Return the intervals to choose from, including the current one."""
    choices = list(INTERVALS)
    if current_seconds is not None and current_seconds not in dict(choices):
        choices.append((current_seconds, f"Every {current_seconds} seconds"))
        choices.sort()
    return choices


class ProtectMachineForm(forms.Form):
    """Where a machine's agent answers, and its one-time code."""

    name = forms.CharField(max_length=200, help_text="Display name")
    host = forms.CharField(
        max_length=253, label="Address", help_text="Host name or IP address of the machine."
    )
    port = forms.IntegerField(min_value=1, max_value=65535, initial=8006)
    code = forms.CharField(
        max_length=100,
        label="Pairing code",
        help_text="The one-time code that the agent printed when it was installed.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    interval_seconds = forms.TypedChoiceField(
        coerce=int, choices=interval_choices, initial=3600, label="Snapshot"
    )


class ScheduleForm(forms.Form):
    """How often a machine's recovery points are taken."""

    interval_seconds = forms.TypedChoiceField(coerce=int, label="Snapshot")

    def __init__(self, *args: Any, machine: Machine, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["interval_seconds"]
        assert isinstance(field, forms.TypedChoiceField)
        field.choices = interval_choices(machine.snapshot_interval_seconds)
        field.initial = machine.snapshot_interval_seconds
