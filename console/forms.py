"""How forms are rendered."""

from django.forms.renderers import TemplatesSetting


class ConsoleFormRenderer(TemplatesSetting):
    """Render forms with this project's field template, so that `{{ form }}` fits the design."""

    form_template_name = "console/_form.html"
    field_template_name = "console/_field.html"
