"""What a workflow is: its steps, what each may use, and the registry of all kinds.

A workflow is a table of contents at the top of its file; its steps follow, each with its undo:

    @workflow(kind="export", title="Export to a VM", params=ExportParams)
    def export() -> Steps:
        return (reserve_vm, import_vm)

    @step("Reserve the VM's marker", nothing_to_undo="it is only an ID", limit_seconds=30)
    def reserve_vm(context: StepContext) -> dict[str, Any]: ...

    @step("Export the disks to a new VM", limit_seconds=24 * 3600)
    def import_vm(context: StepContext) -> dict[str, Any]: ...

    @import_vm.undo
    def undo_import_vm(context: StepContext) -> None: ...

Every app's `workflows` module imports those of its rooms; it is loaded when Django starts. This
module knows nothing of database rows; `engine.py` runs what is declared here.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import UUID

from console.jobs.choices import Queue, UndoKind
from console.jobs.errors import (
    JobCancelled,
    JobConflict,
    StepFailed,
    StepTimedOut,
    UnknownWorkflow,
)
from console.jobs.report import Report

__all__ = [
    "JobCancelled",
    "JobConflict",
    "Step",
    "StepContext",
    "StepFailed",
    "StepTimedOut",
    "Steps",
    "UnknownWorkflow",
    "Waiting",
    "Workflow",
    "find_workflow",
    "get_workflow",
    "newest_workflow",
    "registered_workflows",
    "step",
    "workflow",
]


class Waiting(Exception):
    """A step waits for the outside world: the worker is freed and the step runs again later.

    A step that raises it must not leave anything half-done: act in one step, wait in the next.
    """

    def __init__(self, reason: str, again_in_seconds: float = 2.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again_in_seconds = again_in_seconds


class StepContext(Report, Protocol):
    """What a step may use. It gets everything else by the IDs in `params`."""

    job_id: UUID
    subject_id: UUID
    subject_name: str
    group_id: UUID | None
    requested_by: str
    params: Any
    outputs: Mapping[str, dict[str, Any]]
    attempt: int

    @property
    def output(self) -> dict[str, Any]:
        """This step's own output; empty until it has succeeded, so it is for the undo."""

    @property
    def seconds_left(self) -> float:
        """Seconds until the step's limit is over; useful as the time-out of a call."""

    def check_lease(self) -> None:
        """Check that this worker still has the job, in the database. Call it before an outside act.

        A worker that stood still, because its computer did, notices here that another one has
        taken over and may have undone the step already.

        Raises:
            LeaseLost: another worker has the job.
        """


StepAction = Callable[[Any], dict[str, Any] | None]


@dataclasses.dataclass(eq=False)
class Step:
    """One step with one outside effect. Made by `step`, which explains the fields."""

    title: str
    action: StepAction
    _: dataclasses.KW_ONLY
    limit_seconds: float
    attempts: int
    nothing_to_undo: str
    irreversible: str
    makes_exclusive: bool
    undo_action: StepAction | None = None

    def __post_init__(self) -> None:
        if self.name != self.name.lower():
            raise ValueError(f"step {self.name!r}: its name must be in lower-case snake case")
        if self.limit_seconds <= 0 or self.attempts < 1:
            raise ValueError(f"step {self.name}: limit_seconds and attempts must be positive")

    def undo(self, action: StepAction) -> StepAction:
        """Decorate the function that undoes this step."""
        if self.undo_action is not None:
            raise ValueError(f"step {self.name}: it already has an undo")
        self.undo_action = action
        return action

    def check(self) -> None:
        """Check that the step declares its undo in exactly one way.

        Raises:
            ValueError: it declares none, or more than one.
        """
        ways = [self.undo_action is not None, bool(self.nothing_to_undo), bool(self.irreversible)]
        if sum(ways) != 1:
            raise ValueError(
                f"step {self.name}: give one of an undo, nothing_to_undo and irreversible"
            )

    @property
    def name(self) -> str:
        """The name of the function. It is stored, so never change it."""
        return self.action.__name__

    @property
    def undo_kind(self) -> UndoKind:
        if self.undo_action is not None:
            return UndoKind.UNDO
        return UndoKind.IRREVERSIBLE if self.irreversible else UndoKind.NOTHING

    @property
    def undo_reason(self) -> str:
        """Why there is no undo; empty if there is one."""
        return self.irreversible or self.nothing_to_undo


Steps = tuple[Step, ...]


def step(
    title: str,
    *,
    limit_seconds: float,
    attempts: int = 1,
    nothing_to_undo: str = "",
    irreversible: str = "",
    makes_exclusive: bool = False,
) -> Callable[[StepAction], Step]:
    """Make a function a step.

    Either an undo follows (`@name.undo`), or `nothing_to_undo` or `irreversible` says why there is
    none. The first irreversible step is the job's point of no return.

    attempts: how often it is tried before the job is undone; from the point of no return on, the
        engine's own number applies unless this one is larger.
    limit_seconds: enforced by `check_cancel` and while waiting.
    makes_exclusive: from this step on, no other exclusive job of the subject may be open; the step
        waits until there is none. For workflows that are not exclusive from the start.
    """

    def declare(action: StepAction) -> Step:
        return Step(
            title,
            action,
            limit_seconds=limit_seconds,
            attempts=attempts,
            nothing_to_undo=nothing_to_undo,
            irreversible=irreversible,
            makes_exclusive=makes_exclusive,
        )

    return declare


@dataclasses.dataclass(frozen=True)
class Workflow:
    """A kind of job: an ordered list of steps with a version. Made by `workflow`."""

    kind: str
    title: str
    params: type
    list_steps: Callable[[], Steps]
    version: int = 1
    queue: str = Queue.CONTROL
    is_exclusive: bool = True
    subject_url_name: str = ""
    is_routine: bool = False

    def __post_init__(self) -> None:
        if self.queue not in Queue.values:
            raise ValueError(f"workflow {self.kind}: there is no queue {self.queue!r}")
        if not dataclasses.is_dataclass(self.params):
            raise ValueError(f"workflow {self.kind}: params must be a dataclass")

    @functools.cached_property
    def steps(self) -> Steps:
        """The steps, in order."""
        return self.list_steps()

    def check(self) -> None:
        """Check the list of steps. Called once all of them are declared.

        Raises:
            ValueError: a step, or the list, is wrong.
        """
        names = [step.name for step in self.steps]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"workflow {self.kind}: it needs steps with unique names")
        for step in self.steps:
            step.check()
            if step.makes_exclusive and self.is_exclusive:
                raise ValueError(f"workflow {self.kind}: it is exclusive from the start")

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    @property
    def point_of_no_return(self) -> Step | None:
        """The first irreversible step, if there is one."""
        return next((step for step in self.steps if step.irreversible), None)

    @property
    def outline(self) -> list[str]:
        """The steps as text, one line each: must not change within a version."""
        return [f"{step.name} ({step.undo_kind})" for step in self.steps]


def workflow(
    *,
    kind: str,
    title: str,
    params: type,
    version: int = 1,
    queue: str = Queue.CONTROL,
    is_exclusive: bool = True,
    subject_url_name: str = "",
    is_routine: bool = False,
) -> Callable[[Callable[[], Steps]], Workflow]:
    """Make the function that lists the steps a workflow, and register it.

    The function is called once all steps are declared, so the list can be at the top of a file.
    Change the list only together with `version`; after a release, keep the old version registered
    for as long as jobs of it may be open.

    params: a dataclass of IDs and choices.
    is_exclusive: its jobs cannot be open together with other exclusive jobs of the same subject.
    subject_url_name: the URL name of the subject's page, reversed with its ID.
    is_routine: this core starts its jobs on schedule. Of those, the audit log only holds the ones
        that do not succeed.

    Raises:
        ValueError: another workflow has the same kind and version.
    """

    def declare(list_steps: Callable[[], Steps]) -> Workflow:
        declared = Workflow(
            kind,
            title,
            params,
            list_steps,
            version,
            queue,
            is_exclusive,
            subject_url_name,
            is_routine,
        )
        if _registry.setdefault((kind, version), declared) is not declared:
            raise ValueError(f"workflow {kind} version {version} is registered twice")
        return declared

    return declare


_registry: dict[tuple[str, int], Workflow] = {}


def find_workflow(kind: str, version: int) -> Workflow | None:
    return _registry.get((kind, version))


def get_workflow(kind: str, version: int) -> Workflow:
    """Return the workflow of a kind and version.

    Raises:
        UnknownWorkflow: this process does not know it.
    """
    workflow = find_workflow(kind, version)
    if workflow is None:
        raise UnknownWorkflow(
            f"This version of Understudy has no workflow {kind!r} version {version}. "
            "A worker of the version that started the job can finish it."
        )
    return workflow


def newest_workflow(kind: str) -> Workflow:
    """Return the newest version of a kind.

    Raises:
        UnknownWorkflow: there is none.
    """
    versions = [version for known_kind, version in _registry if known_kind == kind]
    return get_workflow(kind, max(versions, default=1))


def registered_workflows() -> list[Workflow]:
    """Return all workflows, ordered by kind and version."""
    return [workflow for _, workflow in sorted(_registry.items(), key=lambda item: item[0])]
