"""How forms are rendered, and fields that several rooms ask for."""

from typing import Any

from django import forms
from django.forms.renderers import TemplatesSetting


class ConsoleFormRenderer(TemplatesSetting):
    """Render forms with this project's field template, so that `{{ form }}` fits the design."""

    form_template_name = "console/_form.html"
    field_template_name = "console/_field.html"


class ReasonField(forms.CharField):
    """Why a person does what cannot simply be undone; kept in the audit log."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            max_length=1000,
            widget=forms.Textarea(attrs={"rows": 2}),
            help_text="Why this is done. Kept in the audit log, so that others know.",
            error_messages={"required": "Say why this is done."},
            **options,
        )
