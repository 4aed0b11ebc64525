"""A workflow with real effects on files, to prove the engine with: a parcel is packed and sent."""

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from console.jobs.acts import start_job
from console.jobs.models import Job
from console.jobs.workflow import StepContext, StepFailed, Steps, Waiting, step, workflow


@dataclasses.dataclass(frozen=True)
class Params:
    folder: str  # where the effects are
    slices: int = 0  # how many slices `copy` writes
    seconds_per_slice: float = 0
    waits: int = 0  # how often `wait_for_courier` waits


@workflow(kind="demo", title="Send parcel", params=Params)
def demo() -> Steps:
    return (
        reserve_name,
        make_box,
        copy,
        wait_for_courier,
        send,
        thank,
    )


@step("Choose a name", nothing_to_undo="only chooses", limit_seconds=10)
def reserve_name(context: StepContext) -> dict[str, Any]:
    return {"name": f"parcel-{context.job_id}"}


@step("Make a box", limit_seconds=10)
def make_box(context: StepContext) -> dict[str, Any]:
    box = _box(context)
    box.mkdir(exist_ok=True)
    return {"box": str(box)}


@make_box.undo
def undo_make_box(context: StepContext) -> None:
    box = Path(context.output["box"])
    if box.exists():
        box.rmdir()


@step("Pack the parcel", limit_seconds=300)
def copy(context: StepContext) -> dict[str, Any]:
    """Write slices; goes on where an earlier attempt stopped, and counts who began."""
    file = _box(context) / "content"
    _count(context, "copy")
    try:
        with file.open("ab") as content:
            for number in range(file.stat().st_size, context.params.slices):
                context.check_cancel()
                content.write(b"x")
                content.flush()
                context.progress((number + 1) << 20, context.params.slices << 20)
                time.sleep(context.params.seconds_per_slice)
    except Exception:
        file.unlink(missing_ok=True)
        raise
    return {"file": str(file)}


@copy.undo
def undo_copy(context: StepContext) -> None:
    Path(context.output["file"]).unlink(missing_ok=True)


@step("Wait for the courier", nothing_to_undo="only waits", limit_seconds=60)
def wait_for_courier(context: StepContext) -> None:
    bell = Path(context.params.folder) / f"waited-{context.job_id}"
    waited = len(bell.read_text()) if bell.exists() else 0
    if waited < context.params.waits:
        bell.write_text("." * (waited + 1))
        raise Waiting("The courier has not come yet.", again_in_seconds=0.2)
    bell.unlink(missing_ok=True)


@step("Send the parcel", irreversible="it is on its way", limit_seconds=10)
def send(context: StepContext) -> dict[str, Any]:
    """Append to the ledger once; a second run finds its own line."""
    ledger = Path(context.params.folder) / "ledger"
    line = f"{context.outputs['reserve_name']['name']}\n"
    if not ledger.exists() or line not in ledger.read_text().splitlines(keepends=True):
        with ledger.open("a") as lines:
            lines.write(line)
    return {"sent_by": os.getpid()}


@step("Thank the courier", irreversible="is polite", limit_seconds=10)
def thank(context: StepContext) -> None:
    if context.outputs["send"] == {}:
        raise StepFailed("DEMO-NOT-SENT", "The parcel was not sent.")
    (_box(context) / "thanks").write_text("thanks")


@workflow(kind="patient", title="Collect parcel", params=Params, is_exclusive=False)
def patient() -> Steps:
    return (reserve_name, take_turn)


@step("Take a turn", nothing_to_undo="only rings", limit_seconds=60, makes_exclusive=True)
def take_turn(context: StepContext) -> None:
    (Path(context.params.folder) / "turn").write_text("taken")


def start_patient(folder: Path, subject_id: UUID) -> Job:
    """Start a job that waits for the subject's exclusive one in its second step."""
    return start_job("patient", subject_id, "web-01", Params(str(folder)))


def start_demo(folder: Path, **changes: Any) -> Job:
    """Start a demo job in a folder. Changes go to `Params`, or to `start_job` by its names."""
    named = {
        name: changes.pop(name)
        for name in ("subject_id", "request_id", "requested_by", "group_id")
        if name in changes
    }
    subject_id: UUID = named.pop("subject_id", uuid4())
    return start_job("demo", subject_id, "web-01", Params(str(folder), **changes), **named)


def world_of(folder: Path) -> dict[str, str]:
    """Return all files and folders with their content."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith("count-")
    }


def runs_of(folder: Path, step: str) -> list[int]:
    """Return the process ids that began a step, in order."""
    file = folder / f"count-{step}"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _box(context: StepContext) -> Path:
    return Path(context.params.folder) / str(context.outputs["reserve_name"]["name"])


def _count(context: StepContext, step: str) -> None:
    with (Path(context.params.folder) / f"count-{step}").open("a") as lines:
        lines.write(f"{os.getpid()}\n")
