"""How every form is drawn."""

from django.forms.renderers import TemplatesSetting


class ConsoleFormRenderer(TemplatesSetting):
    """Draw forms with this project's own field template, so `{{ form }}` fits the design."""

    form_template_name = "console/_form.html"
    field_template_name = "console/_field.html"
