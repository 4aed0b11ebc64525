"""The filters of the audit log's page."""

from typing import Any

from django import forms

from console.audit.acts import known_acts
from console.audit.listing import Filters


class FilterForm(forms.Form):
    """What entries to list; what is left empty filters nothing."""

    person = forms.CharField(required=False, max_length=255, label="Who")
    act = forms.ChoiceField(required=False, label="Act")
    object = forms.CharField(required=False, max_length=255, label="Object")
    since = forms.DateField(
        required=False, label="From", widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(
        required=False, label="To", widget=forms.DateInput(attrs={"type": "date"})
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        acts = sorted(known_acts().items(), key=lambda one: one[1])
        # Entries may hold acts of another version.
        given = str(self.data.get("act", ""))
        if given and given not in known_acts():
            acts.append((given, given))
        field = self.fields["act"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "Any"), *acts]

    @property
    def filters(self) -> Filters:
        """The filters that are valid."""
        self.is_valid()
        return Filters(**self.cleaned_data)
