"""Archive a machine's recovery points: into a folder or onto a disk that can be carried.

What is there beforehand is noted first, so that a job that fails or is cancelled takes out what it
brought and nothing else. Points that are there already are not copied again.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.jobs.choices import Queue
from console.jobs.workflow import StepContext, Steps, step, workflow
from protected_machines.archives import steps

COPY_LIMIT_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class ArchiveParams:
    """What was asked for."""

    # The archive's folder, by its path on this core.
    folder: str
    # Only what this point is made of; none means all of the machine's points.
    point_id: UUID | None = None


@workflow(
    kind="archive",
    title="Archive",
    queue=Queue.TRANSFER,
    params=ArchiveParams,
    # It only reads points, which never change: snapshots may go on beside it.
    is_exclusive=False,
    subject_url_name="protected_machines:machine",
)
def archive() -> Steps:
    return (
        look_at_folder,
        make_folder,
        copy_points,
    )


@step("Look at the folder", nothing_to_undo="it only looks", limit_seconds=600)
def look_at_folder(context: StepContext) -> dict[str, Any]:
    """Look whether there is room."""
    params: ArchiveParams = context.params
    return steps.look_at_folder(context.subject_id, params.point_id, params.folder)


@step("Make the archive's folder", limit_seconds=60)
def make_folder(context: StepContext) -> None:
    steps.make_folder(context.outputs["look_at_folder"])


@make_folder.undo
def undo_make_folder(context: StepContext) -> None:
    """Take out what was copied."""
    steps.undo_make_folder(context.subject_id, context.outputs["look_at_folder"])


@step(
    "Copy the recovery points",
    nothing_to_undo="what it copied goes when the folder is taken back",
    limit_seconds=COPY_LIMIT_SECONDS,
)
def copy_points(context: StepContext) -> dict[str, Any]:
    look = context.outputs["look_at_folder"]
    context.note(f"Into {look['path']}")
    return steps.copy_points(
        context.subject_id,
        context.params.point_id,
        look,
        context,
    )
