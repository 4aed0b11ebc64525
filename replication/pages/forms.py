"""The forms that choose what is replicated where."""

from typing import Any

from django import forms


class ChooseMachinesForm(forms.Form):
    """Machines of this core to replicate to a target core."""

    machines = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Select at least one machine."},
    )

    def __init__(self, *args: Any, choices: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["machines"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = choices


class ChooseTargetForm(forms.Form):
    """The target core to which one machine is replicated."""

    pairing = forms.ChoiceField(label="Target core")

    def __init__(self, *args: Any, choices: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["pairing"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices
