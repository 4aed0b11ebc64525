"""Import a machine's points from an archive that another core made, or this one.

The points are added to the machine where this core knows it; else it becomes a machine of recovery
points only. Who owns it is not changed. Consuming a seed drive is the same act.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.jobs.choices import Queue
from console.jobs.workflow import StepContext, Steps, step, workflow
from protected_machines.archives import import_steps

COPY_LIMIT_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class ImportParams:
    """What was asked for."""

    # The archive's folder, by its path on this core.
    folder: str
    # Only what this point is made of; none means all of the machine's points in the archive.
    point_id: UUID | None = None


@workflow(
    kind="import_archive",
    title="Import Archive",
    queue=Queue.TRANSFER,
    params=ImportParams,
    # It adds points that are of the past: snapshots may go on beside it.
    is_exclusive=False,
    subject_url_name="protected_machines:machine",
)
def import_archive() -> Steps:
    return (
        look_at_archive,
        make_machine,
        copy_points,
        index_points,
    )


@step("Look at the archive", nothing_to_undo="it only looks", limit_seconds=600)
def look_at_archive(context: StepContext) -> dict[str, Any]:
    """Note what this core lacks."""
    params: ImportParams = context.params
    return import_steps.look_at_archive(context.subject_id, params.point_id, params.folder)


@step("Have the machine listed", limit_seconds=600)
def make_machine(context: StepContext) -> None:
    import_steps.make_machine(
        context.subject_id, context.params.point_id, context.outputs["look_at_archive"]
    )


@make_machine.undo
def undo_make_machine(context: StepContext) -> None:
    """Take out what was brought."""
    import_steps.undo_make_machine(context.subject_id, context.outputs["look_at_archive"])


@step(
    "Copy the recovery points",
    nothing_to_undo="what it brought goes when the machine is taken back",
    limit_seconds=COPY_LIMIT_SECONDS,
)
def copy_points(context: StepContext) -> dict[str, Any]:
    look = context.outputs["look_at_archive"]
    context.note(f"From {look['path']}")
    return import_steps.copy_points(
        context.subject_id,
        context.params.point_id,
        look,
        context,
    )


@step("List the recovery points", nothing_to_undo="it is the last step", limit_seconds=600)
def index_points(context: StepContext) -> dict[str, Any]:
    return import_steps.index_points(
        context.subject_id, context.outputs["copy_points"]["point_ids"]
    )
