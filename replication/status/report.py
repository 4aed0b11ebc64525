"""DR status as its page, its CSV file and its PDF show it: the one list, with its figures."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from console.identity import this_core
from console.readiness import Readiness, ReadinessState, Summary, Verdict, collect, decide
from console.wording import duration_human
from replication.status.facts import Copy, MachineFacts, StatusFacts, gather_facts
from replication.status.grades import (
    DEFAULT_RECOVERY_SECONDS,
    Grade,
    Objectives,
    SetObjectives,
    grade_of,
)
from replication.status.loss import Loss, loss_of
from replication.status.prediction import Prediction, Recovery
from replication.status.risks import machine_objectives, predict_for

RECOVERIES_SHOWN = 20


@dataclass(frozen=True)
class MachineStatus:
    """One machine: its entry in the one list, and the figures."""

    readiness: Readiness
    machine: MachineFacts
    objectives: Objectives
    loss: Loss
    # None too if it cannot be recovered now.
    prediction: Prediction | None
    # The newest recovery of this machine that was measured here.
    last_recovery: Recovery | None

    @property
    def point_grade(self) -> Grade:
        return grade_of(self.loss.seconds, self.objectives.point_seconds)

    @property
    def recovery_grade(self) -> Grade:
        seconds = self.prediction.high_seconds if self.prediction else None
        return grade_of(seconds, self.objectives.recovery_seconds)

    @property
    def point_grade_text(self) -> str:
        return grade_text(self.point_grade, self.objectives.point_seconds)

    @property
    def recovery_grade_text(self) -> str:
        return grade_text(self.recovery_grade, self.objectives.recovery_seconds)

    @property
    def copy_text(self) -> str:
        """Where the copy is that survives the loss of the place where the machine runs."""
        copy = self.machine.copy
        texts = {
            Copy.HERE: "Copy on this core",
            Copy.ONLY: "Copy on this core, perhaps the only one",
            Copy.THERE: f"Copy on {copy.core_name}",
            Copy.NONE: "No second copy",
        }
        return texts[copy.where]

    @property
    def can_be_recovered(self) -> bool:
        return self.readiness.state is not ReadinessState.NOT_READY

    @property
    def has_second_copy(self) -> bool:
        return self.machine.copy.where in (Copy.HERE, Copy.THERE)

    @property
    def proven_at(self) -> datetime | None:
        """When it was last proven that the machine could be recovered, by whatever means."""
        times = [self.machine.proven_at]
        times.append(self.last_recovery.ended_at if self.last_recovery else None)
        return max((time for time in times if time is not None), default=None)


@dataclass(frozen=True)
class CoreStatus:
    """A source core with its machines, worst first."""

    core_id: uuid.UUID
    name: str
    is_this_core: bool
    objectives_text: str
    machines: tuple[MachineStatus, ...]


@dataclass(frozen=True)
class Report:
    """DR status of this core."""

    at: datetime
    summary: Summary
    verdict: Verdict
    cores: tuple[CoreStatus, ...]
    # With the names of their machines, newest first.
    recoveries: tuple[tuple[Recovery, str], ...]

    @property
    def machines(self) -> list[MachineStatus]:
        return [machine for core in self.cores for machine in core.machines]

    @property
    def without_second_copy(self) -> int:
        return sum(not machine.has_second_copy for machine in self.machines)

    @property
    def with_second_copy(self) -> int:
        return self.summary.total - self.without_second_copy

    @property
    def most_loss(self) -> MachineStatus | None:
        """The machine of which most would be lost; none if that is not known of any."""
        known = [machine for machine in self.machines if machine.loss.seconds is not None]
        return max(known, key=lambda machine: machine.loss.seconds or 0.0, default=None)

    @property
    def slowest(self) -> MachineStatus | None:
        """The machine whose recovery is predicted to take longest; none if none is predicted."""
        known = [machine for machine in self.machines if machine.prediction is not None]
        return max(
            known,
            key=lambda one: one.prediction.high_seconds if one.prediction else 0.0,
            default=None,
        )

    @property
    def oldest_proof_at(self) -> datetime | None:
        """The oldest of the machines' last proofs; none if one was never proven."""
        proofs = [machine.proven_at for machine in self.machines]
        known = [proof for proof in proofs if proof is not None]
        return min(known) if known and len(known) == len(proofs) else None

    @property
    def never_proven(self) -> int:
        return sum(machine.proven_at is None for machine in self.machines)


def gather_report(now: datetime) -> Report:
    """Return DR status now."""
    summary = collect(now)
    # Last, so that it knows each machine of the list.
    facts = gather_facts()
    rows = [_machine_status(entry, facts, now) for entry in summary.machines]
    names = {machine.machine_id: machine.name for machine in facts.machines.values()}
    recoveries = [
        (one, names[one.machine_id]) for one in facts.recoveries if one.machine_id in names
    ]
    return Report(
        at=now,
        summary=summary,
        verdict=decide(summary),
        cores=tuple(_by_core(rows, facts)),
        recoveries=tuple(recoveries[:RECOVERIES_SHOWN]),
    )


def _machine_status(entry: Readiness, facts: StatusFacts, now: datetime) -> MachineStatus:
    machine = facts.machines[entry.machine_id]
    is_lost = entry.state is ReadinessState.NOT_READY
    recoveries = (one for one in facts.recoveries if one.machine_id == machine.machine_id)
    return MachineStatus(
        readiness=entry,
        machine=machine,
        objectives=machine_objectives(machine, facts),
        loss=loss_of(machine, now),
        prediction=None if is_lost else predict_for(machine, facts),
        last_recovery=next(recoveries, None),
    )


def _by_core(rows: Iterable[MachineStatus], facts: StatusFacts) -> Iterable[CoreStatus]:
    """Yield the source cores by name, this core last."""
    by_core: dict[uuid.UUID, list[MachineStatus]] = {}
    for row in rows:
        by_core.setdefault(row.machine.core_id, []).append(row)
    this_id = uuid.UUID(this_core().id)

    def place(core_id: uuid.UUID) -> tuple[bool, str]:
        return core_id == this_id, by_core[core_id][0].machine.core_name.casefold()

    for core_id in sorted(by_core, key=place):
        machines = tuple(by_core[core_id])
        yield CoreStatus(
            core_id,
            machines[0].machine.core_name,
            core_id == this_id,
            objectives_text(facts.objectives.get(core_id) or SetObjectives()),
            machines,
        )


def grade_text(grade: Grade, objective_seconds: float) -> str:
    """Return a grade with its objective in words."""
    objective = duration_human(objective_seconds)
    if grade is Grade.UNKNOWN:
        return f"Not known, objective {objective}"
    return f"{grade.label} of {objective}"


def objectives_text(chosen: SetObjectives) -> str:
    """Return the objectives of a core in words."""
    point = duration_human(chosen.point_seconds) if chosen.point_seconds else ""
    lost = f"at most {point} of data lost" if point else "no point later than its schedule allows"
    recovery = duration_human(chosen.recovery_seconds or DEFAULT_RECOVERY_SECONDS)
    return f"Objectives: {lost}, recovery within {recovery}"
