"""What other rooms show at a step that is under way, so that the pages of jobs do not name them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from console.jobs.models import Job, JobStep


@dataclass(frozen=True)
class StepPanel:
    """A part of the page of a job. `template` gets the result of `values` as `panel`.

    values: returns none if there is nothing to show at this step of this job.
    """

    template: str
    values: Callable[[Job, JobStep], Mapping[str, Any] | None]


_panels: dict[str, StepPanel] = {}


def register_panel(panel: StepPanel) -> None:
    """Show a panel at steps. Called from an app's `ready()`."""
    _panels[panel.template] = panel


def panels_at(job: Job, step: JobStep) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the templates to show at a step that is under way, with their values."""
    found = [(panel.template, panel.values(job, step)) for panel in _panels.values()]
    return [(template, values) for template, values in found if values is not None]
