"""Show a dialog in the page that requested it, or as a separate page without JavaScript."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.htmx import is_fragment
from console.jobs.choices import UndoKind
from console.jobs.workflow import Workflow


def render_dialog(
    request: HttpRequest,
    template: str,
    title: str,
    context: Mapping[str, Any],
    status: int = 200,
) -> HttpResponse:
    """Render the dialog's template; as a separate page, within its app's `dialog_page.html`.

    status: 422 for a form that was filled in wrongly.
    """
    values = {**context, "dialog_title": title, "dialog_template": template}
    app = template.partition("/")[0]
    wrapper = template if is_fragment(request) else f"{app}/dialog_page.html"
    return render(request, wrapper, values, status=status)


def steps_of(workflow: Workflow) -> list[dict[str, Any]]:
    """Return the steps that will run, with what an administrator should know about each."""
    return [
        {
            "title": step.title,
            "what": _undo_text(step.undo_kind, step.undo_reason),
            "is_return": step is workflow.point_of_no_return,
        }
        for step in workflow.steps
    ]


def _undo_text(undo_kind: UndoKind, reason: str) -> str:
    if undo_kind == UndoKind.UNDO:
        return "Undone if a later step fails."
    return f"Cannot be undone: {reason}." if undo_kind == UndoKind.IRREVERSIBLE else ""
