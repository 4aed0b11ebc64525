"""What a workflow is: its steps, what each may use, and the registry of all kinds.

A workflow is declared in a `workflows` module (or package) of its app, which is imported when
Django starts. This module knows no database rows; `engine.py` runs what is declared here.
"""

import dataclasses
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

__all__ = [
    "JobCancelled",
    "JobConflict",
    "Step",
    "StepContext",
    "StepFailed",
    "StepTimedOut",
    "UnknownWorkflow",
    "Waiting",
    "Workflow",
    "find_workflow",
    "get_workflow",
    "newest_workflow",
    "register",
    "registered_workflows",
]


class Waiting(Exception):
    """A step waits for the world: the worker is freed and the step runs again later.

    Whoever raises it has nothing half-done: act in one step, wait in the next.
    """

    def __init__(self, reason: str, again_in_seconds: float = 2.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again_in_seconds = again_in_seconds


class StepContext(Protocol):
    """What a step may use. Everything else it must look up by the ids in `params`."""

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
        """This step's own output; empty until it has succeeded, so of use to its undo."""

    @property
    def seconds_left(self) -> float:
        """Seconds until the step's limit is over; a good time limit for a call."""

    def progress(self, done_bytes: int, total_bytes: int | None = None) -> None:
        """Say how far it is. Cheap: may be called for every slice, from any thread."""

    def note(self, text: str) -> None:
        """Say something to the people who watch; it never steers code."""

    def check_cancel(self) -> None:
        """Stop here if the job was cancelled, the step's limit is over or the lease is lost.

        To be called between slices, after looking for what an earlier attempt left.

        Raises:
            JobCancelled: somebody asked to cancel.
            StepTimedOut: the limit is over.
        """


StepAction = Callable[[Any], dict[str, Any] | None]


@dataclasses.dataclass(frozen=True)
class Step:
    """One step with one outside effect.

    Exactly one of `undo`, `nothing_to_undo` and `irreversible` is given; the two texts say why
    there is no undo. `attempts` is how often a step before the point of no return is tried
    before the job rolls back; from the point of no return on the engine's own number applies
    unless it is larger.
    """

    name: str
    title: str
    action: StepAction
    _: dataclasses.KW_ONLY
    undo: StepAction | None = None
    nothing_to_undo: str = ""
    irreversible: str = ""
    limit_seconds: float
    attempts: int = 1

    def __post_init__(self) -> None:
        ways = [self.undo is not None, bool(self.nothing_to_undo), bool(self.irreversible)]
        if sum(ways) != 1:
            raise ValueError(
                f"step {self.name}: give one of undo, nothing_to_undo and irreversible"
            )
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise ValueError(f"step {self.name!r}: its name must be in lower-case snake form")
        if self.limit_seconds <= 0 or self.attempts < 1:
            raise ValueError(f"step {self.name}: limit_seconds and attempts must be positive")

    @property
    def undo_kind(self) -> UndoKind:
        if self.undo is not None:
            return UndoKind.UNDO
        return UndoKind.IRREVERSIBLE if self.irreversible else UndoKind.NOTHING

    @property
    def undo_reason(self) -> str:
        """Why there is no undo, in words; empty where there is one."""
        return self.irreversible or self.nothing_to_undo


@dataclasses.dataclass(frozen=True)
class Workflow:
    """A kind of job: an ordered list of steps under a version.

    `params` is a dataclass of ids and choices. `is_exclusive` kinds never run beside another
    exclusive job of the same subject. `subject_url_name` is the URL name of the subject's page,
    reversed with its id. Change the list of steps only together with `version`, and keep the
    old version registered for as long as jobs of it may be open.
    """

    kind: str
    title: str
    params: type
    steps: tuple[Step, ...]
    version: int = 1
    queue: str = Queue.CONTROL
    is_exclusive: bool = True
    subject_url_name: str = ""

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"workflow {self.kind}: steps must be there and have unique names")
        if self.queue not in Queue.values:
            raise ValueError(f"workflow {self.kind}: there is no queue {self.queue!r}")
        if not dataclasses.is_dataclass(self.params):
            raise ValueError(f"workflow {self.kind}: params must be a dataclass")

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    @property
    def point_of_no_return(self) -> Step | None:
        """The first irreversible step, if there is one."""
        return next((step for step in self.steps if step.irreversible), None)

    @property
    def outline(self) -> list[str]:
        """The plan as text, one line a step: what must not change under one version."""
        return [f"{step.name} ({step.undo_kind})" for step in self.steps]


_registry: dict[tuple[str, int], Workflow] = {}


def register(workflow: Workflow) -> Workflow:
    """Make a workflow known under its kind and version, and return it.

    Raises:
        ValueError: another workflow has the same kind and version.
    """
    key = (workflow.kind, workflow.version)
    known = _registry.setdefault(key, workflow)
    if known is not workflow and known.outline != workflow.outline:
        raise ValueError(f"workflow {workflow.kind} version {workflow.version} is registered twice")
    return workflow


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
            f"This version of Understudy knows no plan {kind!r} version {version}. "
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
    """Return all, ordered by kind and version."""
    return [workflow for _, workflow in sorted(_registry.items(), key=lambda item: item[0])]
