"""A job goes on with the plan it began with, so a plan that was shipped never changes."""

import json
from pathlib import Path

import pytest

from console.jobs.workflow import get_workflow, registered_workflows

SHIPPED = json.loads((Path(__file__).parent / "shipped_plans.json").read_text())


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_plan_is_unchanged(name: str) -> None:
    kind, _, version = name.partition("@")
    workflow = get_workflow(kind, int(version))
    assert workflow.outline == SHIPPED[name], "Give the changed list of steps a new version."


def test_every_plan_of_an_application_is_recorded() -> None:
    names = {
        f"{workflow.kind}@{workflow.version}"
        for workflow in registered_workflows()
        if not workflow.params.__module__.startswith("tests.")
    }
    assert names == set(SHIPPED), "Run manage.py record_plans."
