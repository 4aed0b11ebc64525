"""Archive a machine's recovery points in a folder or on a removable disk.

The first step notes what is there already: it is not copied again, and a job that fails or is
cancelled leaves it alone and removes only its own copies.
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
    # Only this point and those it builds on; none means all of the machine's points.
    point_id: UUID | None = None


@workflow(
    kind="archive",
    title="Archive",
    queue=Queue.TRANSFER,
    params=ArchiveParams,
    # It only reads points, which never change, so snapshots can be taken meanwhile.
    is_exclusive=False,
    subject_url_name="protected_machines:machine",
)
def archive() -> Steps:
    return (
        look_at_folder,
        make_folder,
        copy_points,
    )


@step("Check the folder", nothing_to_undo="it only reads", limit_seconds=600)
def look_at_folder(context: StepContext) -> dict[str, Any]:
    """Check that there is room."""
    params: ArchiveParams = context.params
    return steps.take_inventory(context.subject_id, params.point_id, params.folder).to_json()


@step("Create the archive's folder", limit_seconds=60)
def make_folder(context: StepContext) -> None:
    steps.make_folder(_inventory(context))


@make_folder.undo
def undo_make_folder(context: StepContext) -> None:
    """Delete what was copied."""
    steps.undo_make_folder(context.subject_id, _inventory(context))


@step(
    "Copy the recovery points",
    nothing_to_undo="undoing the folder deletes what it copied",
    limit_seconds=COPY_LIMIT_SECONDS,
)
def copy_points(context: StepContext) -> dict[str, Any]:
    inventory = _inventory(context)
    context.note(f"To {inventory.path}")
    return steps.copy_points(context.subject_id, context.params.point_id, inventory, context)


def _inventory(context: StepContext) -> steps.FolderInventory:
    return steps.FolderInventory.from_json(context.outputs["look_at_folder"])
