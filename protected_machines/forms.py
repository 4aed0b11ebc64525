"""Forms for protecting a machine, for its schedule, and for settling who owns it."""

from collections.abc import Sequence
from typing import Any

from django import forms

from protected_machines.models import Machine
from protected_machines.settlements import Choice, Settlement, needs_address, seen_of

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


class SettleOwnerForm(forms.Form):
    """Whose a machine is. Typing its name confirms that this has been found out."""

    choice = forms.ChoiceField(error_messages={"required": "Choose the core where it runs."})
    host = forms.CharField(max_length=253, required=False, label="Address of its agent")
    port = forms.IntegerField(min_value=1, max_value=65535, required=False)
    typed_name = forms.CharField(
        max_length=200,
        label="Name of the machine",
        help_text="Type it to confirm that you know where the machine runs.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    # What the person saw. A dialog that has been open since before a change settles nothing.
    seen = forms.CharField(widget=forms.HiddenInput)

    def __init__(
        self, *args: Any, machine: Machine, settlements: Sequence[Settlement], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.initial = {"host": machine.host, "port": machine.port, "seen": seen_of(machine)}
        self._machine = machine
        field = self.fields["choice"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(one.choice.value, one.title) for one in settlements]

    def clean_typed_name(self) -> str:
        typed: str = self.cleaned_data["typed_name"].strip()
        if typed != self._machine.name:
            raise forms.ValidationError(f"Type {self._machine.name}.")
        return typed

    def clean_seen(self) -> str:
        seen: str = self.cleaned_data["seen"]
        if seen != seen_of(self._machine):
            raise forms.ValidationError(
                "Something has changed since this dialog was opened. Close it and read it again."
            )
        return seen

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        is_asked = values.get("choice") == Choice.HERE and needs_address(self._machine)
        if is_asked and not (values.get("host") and values.get("port")):
            self.add_error("host", "Enter where the machine's agent answers here.")
        return values
