"""Show a dialog in the page that asked for it, or as a page of its own without script."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.htmx import is_fragment


def render_dialog(
    request: HttpRequest,
    template: str,
    title: str,
    context: Mapping[str, Any],
    status: int = 200,
) -> HttpResponse:
    """Render the dialog's template; 422 is for a form that was filled in wrongly."""
    values = {**context, "dialog_title": title, "dialog_template": template}
    wrapper = template if is_fragment(request) else "replication/dialog_page.html"
    return render(request, wrapper, values, status=status)
