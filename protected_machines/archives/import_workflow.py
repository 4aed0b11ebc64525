"""Import a machine's points from an archive that this or another core made.

If this core does not know the machine, it is added as "recovery points only". Its owner does not
change. Consuming a seed drive is the same act.
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
    # Only this point and those it builds on; none means all of the machine's points there.
    point_id: UUID | None = None


@workflow(
    kind="import_archive",
    title="Import Archive",
    queue=Queue.TRANSFER,
    params=ImportParams,
    # It only adds older points, so snapshots can be taken meanwhile.
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


@step("Read the archive", nothing_to_undo="it only reads", limit_seconds=600)
def look_at_archive(context: StepContext) -> dict[str, Any]:
    """Find what this core lacks."""
    params: ImportParams = context.params
    return import_steps.take_inventory(context.subject_id, params.point_id, params.folder).to_json()


@step("Add the machine", limit_seconds=600)
def make_machine(context: StepContext) -> None:
    import_steps.make_machine(context.subject_id, context.params.point_id, _inventory(context))


@make_machine.undo
def undo_make_machine(context: StepContext) -> None:
    """Delete what was imported."""
    import_steps.undo_make_machine(context.subject_id, _inventory(context))


@step(
    "Copy the recovery points",
    nothing_to_undo="undoing the machine deletes what it copied",
    limit_seconds=COPY_LIMIT_SECONDS,
)
def copy_points(context: StepContext) -> dict[str, Any]:
    inventory = _inventory(context)
    context.note(f"From {inventory.path}")
    return import_steps.copy_points(context.subject_id, context.params.point_id, inventory, context)


@step("List the recovery points", nothing_to_undo="it is the last step", limit_seconds=600)
def index_points(context: StepContext) -> dict[str, Any]:
    return import_steps.index_points(
        context.subject_id, context.outputs["copy_points"]["point_ids"]
    )


def _inventory(context: StepContext) -> import_steps.ArchiveInventory:
    return import_steps.ArchiveInventory.from_json(context.outputs["look_at_archive"])
