"""Import a machine's points from an archive that another core made, or this one.

The points are added to the machine where this core knows it; else it becomes a machine of recovery
points only. Who owns it is not changed. Consuming a seed drive is the same act.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.jobs.choices import Queue
from console.jobs.workflow import Step, StepContext, Workflow, register
from protected_machines.archives import import_steps

COPY_LIMIT_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class ImportParams:
    """What was asked for."""

    # The archive's folder, by its path on this core.
    folder: str
    # Only what this point is made of; none means all of the machine's points in the archive.
    point_id: UUID | None = None


def look_at_archive(context: StepContext) -> dict[str, Any]:
    """Note what this core lacks. See `imports.look_at_archive`."""
    params: ImportParams = context.params
    return import_steps.look_at_archive(context.subject_id, params.point_id, params.folder)


def make_machine(context: StepContext) -> None:
    """Have a row for the machine. See `imports.make_machine`."""
    import_steps.make_machine(
        context.subject_id, context.params.point_id, context.outputs["look_at_archive"]
    )


def undo_make_machine(context: StepContext) -> None:
    """Take out what was brought. See `imports.undo_make_machine`."""
    import_steps.undo_make_machine(context.subject_id, context.outputs["look_at_archive"])


def copy_points(context: StepContext) -> dict[str, Any]:
    """Bring the points. See `imports.copy_points`."""
    look = context.outputs["look_at_archive"]
    context.note(f"From {look['path']}")
    return import_steps.copy_points(
        context.subject_id,
        context.params.point_id,
        look,
        context.progress,
        context.check_cancel,
    )


def index_points(context: StepContext) -> dict[str, Any]:
    """List the points. See `imports.index_points`."""
    return import_steps.index_points(
        context.subject_id, context.outputs["copy_points"]["point_ids"]
    )


WORKFLOW = register(
    Workflow(
        kind="import_archive",
        title="Import Archive",
        queue=Queue.TRANSFER,
        params=ImportParams,
        # It adds points that are of the past: snapshots may go on beside it.
        is_exclusive=False,
        subject_url_name="protected_machines:machine",
        steps=(
            Step(
                "look_at_archive",
                "Look at the archive",
                look_at_archive,
                nothing_to_undo="it only looks",
                limit_seconds=600,
            ),
            Step(
                "make_machine",
                "Have the machine listed",
                make_machine,
                undo=undo_make_machine,
                limit_seconds=600,
            ),
            Step(
                "copy_points",
                "Copy the recovery points",
                copy_points,
                nothing_to_undo="what it brought goes when the machine is taken back",
                limit_seconds=COPY_LIMIT_SECONDS,
            ),
            Step(
                "index_points",
                "List the recovery points",
                index_points,
                nothing_to_undo="it is the last step",
                limit_seconds=600,
            ),
        ),
    )
)
