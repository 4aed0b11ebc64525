"""The generic five hold for the demo workflow, which has real effects on files."""

from pathlib import Path

import pytest

from console.jobs.models import Job
from tests.console.jobs.demo import demo, start_demo, world_of
from tests.console.jobs.generic_five import GenericFive, WorkflowCase


@pytest.fixture
def case(db: None, tmp_path: Path) -> WorkflowCase:
    def check_success(job: Job) -> None:
        name = f"parcel-{job.id}"
        assert world_of(tmp_path) == {
            name: "folder",
            f"{name}/content": "xxx",
            f"{name}/thanks": "thanks",
            "ledger": f"{name}\n",
        }

    return WorkflowCase(
        start=lambda: start_demo(tmp_path, slices=3),
        world=lambda: world_of(tmp_path),
        check_success=check_success,
    )


class TestDemo(GenericFive):
    workflow = demo
    copying_steps = ("copy",)
