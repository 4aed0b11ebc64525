"""Forms for archiving a machine and for importing an archive."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from django import forms

from protected_machines.models import RecoveryPoint
from protected_machines.points.forms import point_text

FOLDER_HELP = (
    "Full path on this core. A new folder is created. An existing archive gets the points it lacks."
)


class ArchiveForm(forms.Form):
    """Which points to archive, and the folder on this core."""

    point_id = forms.TypedChoiceField(
        coerce=UUID, empty_value=None, required=False, label="Recovery points"
    )
    folder = forms.CharField(
        max_length=1000,
        help_text=FOLDER_HELP,
        widget=forms.TextInput(attrs={"placeholder": "/mnt/usb/archive", "spellcheck": "false"}),
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(
        self, data: Any = None, *, points: Sequence[RecoveryPoint], all_text: str, **kwargs: Any
    ) -> None:
        super().__init__(data, **kwargs)
        field = self.fields["point_id"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [
            ("", all_text),
            *((point.pk, f"{point_text(point)}, with the points it builds on") for point in points),
        ]


class ArchiveFolderForm(forms.Form):
    """The folder of an archive to import, on this core."""

    folder = forms.CharField(
        max_length=1000,
        help_text="Full path on this core.",
        widget=forms.TextInput(attrs={"placeholder": "/mnt/usb/archive", "spellcheck": "false"}),
    )


class ImportArchiveForm(forms.Form):
    """Which of an archive's machines to import; of a single machine, up to which point."""

    folder = forms.CharField(max_length=1000, widget=forms.HiddenInput)
    machines = forms.TypedMultipleChoiceField(
        coerce=UUID,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Select at least one machine."},
    )
    point_id = forms.TypedChoiceField(
        coerce=UUID, empty_value=None, required=False, label="Recovery points"
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(
        self,
        data: Any = None,
        *,
        machines: Sequence[tuple[UUID, str]],
        points: Sequence[tuple[Any, str]],
        **kwargs: Any,
    ) -> None:
        super().__init__(data, **kwargs)
        for name, choices in (("machines", machines), ("point_id", points)):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = choices
