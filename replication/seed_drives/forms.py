"""The form of the Copy to Seed Drive dialog."""

from typing import Any
from uuid import UUID, uuid4

from django import forms

from protected_machines.archives.forms import FOLDER_HELP


class SeedDriveForm(forms.Form):
    """Which machines' points to copy to a seed drive, and the folder on this core."""

    machines = forms.TypedMultipleChoiceField(
        coerce=UUID,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Select at least one machine."},
    )
    folder = forms.CharField(
        max_length=1000,
        help_text=FOLDER_HELP,
        widget=forms.TextInput(attrs={"placeholder": "/mnt/usb/seed", "spellcheck": "false"}),
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(self, *args: Any, choices: list[tuple[UUID, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["machines"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices
