"""Copy a machine's points to a seed drive, which the target core consumes.

It is an archive of all its points. From its beginning on nothing of the machine goes over the link,
until the target core has consumed the drive or an administrator abandons it.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.jobs.choices import Queue
from console.jobs.workflow import Step, StepContext, Workflow, register
from protected_machines.archives import steps
from replication.seed_drives import drives
from replication.transfer.sending import get_replicated

COPY_LIMIT_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class SeedDriveParams:
    """Which machine's points are copied, and where to."""

    replicated_machine_id: UUID
    # The seed drive's folder, by its path on this core.
    folder: str


def look_at_folder(context: StepContext) -> dict[str, Any]:
    """Look whether there is room. See `archives.look_at_folder`."""
    params: SeedDriveParams = context.params
    replicated = get_replicated(params.replicated_machine_id)
    look = steps.look_at_folder(replicated.machine_id, None, params.folder)
    return {**look, "machine_id": str(replicated.machine_id)}


def hold_back(context: StepContext) -> None:
    """Have nothing sent over the link. See `seed_drives.hold_back`."""
    drives.hold_back(
        context.job_id,
        context.params.replicated_machine_id,
        context.outputs["look_at_folder"]["path"],
        context.requested_by,
    )


def undo_hold_back(context: StepContext) -> None:
    """Let the link be used again. See `seed_drives.undo_hold_back`."""
    drives.undo_hold_back(context.job_id)


def make_folder(context: StepContext) -> None:
    """Make the folder. See `archives.make_folder`."""
    steps.make_folder(context.outputs["look_at_folder"])


def undo_make_folder(context: StepContext) -> None:
    """Take out what was copied. See `archives.undo_make_folder`."""
    look = context.outputs["look_at_folder"]
    steps.undo_make_folder(look["machine_id"], look)


def copy_points(context: StepContext) -> dict[str, Any]:
    """Copy the points. See `archives.copy_points`."""
    look = context.outputs["look_at_folder"]
    context.note(f"Into {look['path']}")
    return steps.copy_points(look["machine_id"], None, look, context.progress, context.check_cancel)


def note_contents(context: StepContext) -> None:
    """Keep what is on the drive. See `seed_drives.note_contents`."""
    drives.note_contents(
        context.job_id,
        context.outputs["look_at_folder"]["machine_id"],
        context.outputs["copy_points"],
    )


WORKFLOW = register(
    Workflow(
        kind="seed_drive",
        title="Copy to Seed Drive",
        queue=Queue.TRANSFER,
        params=SeedDriveParams,
        # A replication that is under way sees the seed drive, and ends.
        is_exclusive=False,
        subject_url_name="replication:machine",
        steps=(
            Step(
                "look_at_folder",
                "Look at the folder",
                look_at_folder,
                nothing_to_undo="it only looks",
                limit_seconds=600,
            ),
            Step(
                "hold_back",
                "Send nothing over the link from now on",
                hold_back,
                undo=undo_hold_back,
                limit_seconds=60,
            ),
            Step(
                "make_folder",
                "Make the seed drive's folder",
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
            Step(
                "note_contents",
                "Note what is on the seed drive",
                note_contents,
                nothing_to_undo="it is the last step",
                limit_seconds=60,
            ),
        ),
    )
)
