"""Archive a machine's recovery points: into a folder or onto a disk that can be carried.

What is there beforehand is noted first, so that a job that fails or is cancelled takes out what it
brought and nothing else. Points that are there already are not copied again.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.jobs.choices import Queue
from console.jobs.workflow import Step, StepContext, Workflow, register
from protected_machines.archives import steps

COPY_LIMIT_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class ArchiveParams:
    """What was asked for."""

    # The archive's folder, by its path on this core.
    folder: str
    # Only what this point is made of; none means all of the machine's points.
    point_id: UUID | None = None


def look_at_folder(context: StepContext) -> dict[str, Any]:
    """Look whether there is room. See `archives.look_at_folder`."""
    params: ArchiveParams = context.params
    return steps.look_at_folder(context.subject_id, params.point_id, params.folder)


def make_folder(context: StepContext) -> None:
    """Make the archive's folder. See `archives.make_folder`."""
    steps.make_folder(context.outputs["look_at_folder"])


def undo_make_folder(context: StepContext) -> None:
    """Take out what was copied. See `archives.undo_make_folder`."""
    steps.undo_make_folder(context.subject_id, context.outputs["look_at_folder"])


def copy_points(context: StepContext) -> dict[str, Any]:
    """Copy the points. See `archives.copy_points`."""
    look = context.outputs["look_at_folder"]
    context.note(f"Into {look['path']}")
    return steps.copy_points(
        context.subject_id,
        context.params.point_id,
        look,
        context.progress,
        context.check_cancel,
    )


WORKFLOW = register(
    Workflow(
        kind="archive",
        title="Archive",
        queue=Queue.TRANSFER,
        params=ArchiveParams,
        # It only reads points, which never change: snapshots may go on beside it.
        is_exclusive=False,
        subject_url_name="protected_machines:machine",
        steps=(
            Step(
                "look_at_folder",
                "Look at the folder",
                look_at_folder,
                nothing_to_undo="it only looks",
                limit_seconds=600,
            ),
            Step(
                "make_folder",
                "Make the archive's folder",
                make_folder,
                undo=undo_make_folder,
                limit_seconds=60,
            ),
            Step(
                "copy_points",
                "Copy the recovery points",
                copy_points,
                nothing_to_undo="what it copied goes when the folder is taken back",
                limit_seconds=COPY_LIMIT_SECONDS,
            ),
        ),
    )
)
