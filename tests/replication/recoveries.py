"""Rows that DR status is made of."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from console.jobs.choices import JobState, StepState, UndoKind
from console.jobs.models import Job, JobStep
from protected_machines.models import Machine
from tests.factories import GIB

_STEPS = {
    "failover": ("prove_chain", "export_vm", "protect_here"),
    "export": ("prove_chain", "import_vm"),
    "restore": ("prove_chain", "restore_disks", "wait_for_machine"),
}


def make_recovery(
    machine: Machine, kind: str, began_at: datetime, *seconds: float, **changes: Any
) -> Job:
    """A job that succeeded, whose steps took so many seconds each, one after the other."""
    copied_bytes = changes.pop("copied_bytes", GIB)
    job = Job.objects.create(
        kind=kind,
        title=kind.title(),
        subject_id=machine.pk,
        subject_name=machine.name,
        is_exclusive=False,
        plan_version=1,
        params={},
        queue="control",
        **{
            "state": JobState.SUCCEEDED,
            "started_at": began_at,
            "finished_at": began_at + timedelta(seconds=sum(seconds)),
            "group_id": uuid.uuid4() if kind == "failover" else None,
            **changes,
        },
    )
    at = began_at
    for position, (name, lasted) in enumerate(zip(_STEPS[kind], seconds, strict=True), start=1):
        JobStep.objects.create(
            job=job,
            position=position,
            name=name,
            title=name,
            undo_kind=UndoKind.NOTHING,
            state=StepState.SUCCEEDED,
            started_at=at,
            finished_at=at + timedelta(seconds=lasted),
            done_bytes=copied_bytes if position == 2 else 0,
        )
        at += timedelta(seconds=lasted)
    return job
