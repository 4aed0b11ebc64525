"""Copy a machine's points to a seed drive, which the target core consumes.

The seed drive is an archive of all its points. Once the copying has started, nothing of the machine
goes over the link until the target core has consumed the drive or an administrator abandons it.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.jobs.choices import Queue
from console.jobs.workflow import StepContext, Steps, step, workflow
from protected_machines.archives import steps
from replication.seed_drives import drives
from replication.transfer.sending import get_replicated

COPY_LIMIT_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class SeedDriveParams:
    """Which machine's points to copy, and where to."""

    replicated_machine_id: UUID
    # The path of the seed drive's folder on this core.
    folder: str


@workflow(
    kind="seed_drive",
    title="Copy to Seed Drive",
    queue=Queue.TRANSFER,
    params=SeedDriveParams,
    # A running replication notices the seed drive and ends.
    is_exclusive=False,
    subject_url_name="replication:machine",
)
def seed_drive() -> Steps:
    return (
        look_at_folder,
        hold_back,
        make_folder,
        copy_points,
        note_contents,
    )


@step("Check the folder", nothing_to_undo="it only reads", limit_seconds=600)
def look_at_folder(context: StepContext) -> dict[str, Any]:
    """Check that the folder can be used and that the points fit."""
    params: SeedDriveParams = context.params
    replicated = get_replicated(params.replicated_machine_id)
    inventory = steps.take_inventory(replicated.machine_id, None, params.folder)
    return {**inventory.to_json(), "machine_id": str(replicated.machine_id)}


@step("Stop sending over the link", limit_seconds=60)
def hold_back(context: StepContext) -> None:
    drives.hold_back(
        context.job_id,
        context.params.replicated_machine_id,
        str(_inventory(context).path),
        context.requested_by,
    )


@hold_back.undo
def undo_hold_back(context: StepContext) -> None:
    """Allow sending over the link again."""
    drives.undo_hold_back(context.job_id)


@step("Create the seed drive's folder", limit_seconds=60)
def make_folder(context: StepContext) -> None:
    steps.make_folder(_inventory(context))


@make_folder.undo
def undo_make_folder(context: StepContext) -> None:
    """Delete what was copied."""
    steps.undo_make_folder(_machine_id(context), _inventory(context))


@step(
    "Copy the recovery points",
    nothing_to_undo="undoing the folder deletes what it copied",
    limit_seconds=COPY_LIMIT_SECONDS,
)
def copy_points(context: StepContext) -> dict[str, Any]:
    inventory = _inventory(context)
    context.note(f"To {inventory.path}")
    return steps.copy_points(_machine_id(context), None, inventory, context)


@step("Record what is on the seed drive", nothing_to_undo="it is the last step", limit_seconds=60)
def note_contents(context: StepContext) -> None:
    drives.note_contents(context.job_id, _machine_id(context), context.outputs["copy_points"])


def _inventory(context: StepContext) -> steps.FolderInventory:
    return steps.FolderInventory.from_json(context.outputs["look_at_folder"])


def _machine_id(context: StepContext) -> UUID:
    return UUID(context.outputs["look_at_folder"]["machine_id"])
