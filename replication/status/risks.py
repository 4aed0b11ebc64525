"""What DR status adds to the one list of the home page. The rest is found by other rooms.

The status page shows that list; so does the home page. Neither can be greener than the other.
"""

from collections.abc import Iterator
from datetime import datetime

from django.urls import reverse

from console.readiness import Readiness, ReadinessState
from console.wording import duration_human, span
from replication.status.facts import Copy, MachineFacts, StatusFacts, gather_facts
from replication.status.grades import Objectives, grade_of, loss_seconds, objectives_of
from replication.status.prediction import Prediction, predict


def readiness(now: datetime) -> Iterator[Readiness]:
    """Yield one entry for each machine that misses an objective or has no second copy."""
    facts = gather_facts()
    for machine in facts.machines.values():
        if not machine.is_listed:
            continue
        objectives = machine_objectives(machine, facts)
        reasons = tuple(risks_of(machine, objectives, predict_for(machine, facts), now))
        if reasons:
            yield Readiness(
                machine_id=machine.machine_id,
                machine_name=machine.name,
                url=reverse("protected_machines:machine", args=[machine.machine_id]),
                state=ReadinessState.AT_RISK,
                headline="At risk",
                reasons=reasons,
            )


def machine_objectives(machine: MachineFacts, facts: StatusFacts) -> Objectives:
    """Return the objectives that hold for a machine."""
    return objectives_of(
        machine.interval_seconds,
        facts.objectives.get(machine.core_id),
        facts.objectives.get(machine.machine_id),
    )


def predict_for(machine: MachineFacts, facts: StatusFacts) -> Prediction | None:
    """Return how long a recovery of the machine on this core takes."""
    return predict(machine.least_bytes, machine.most_bytes, facts.recoveries)


def risks_of(
    machine: MachineFacts, objectives: Objectives, prediction: Prediction | None, now: datetime
) -> Iterator[str]:
    """Yield what is wrong with a machine beyond what other rooms find. Pure."""
    copy = machine.copy
    if machine.is_in_vm and copy.where is Copy.NONE:
        yield "It has failed over and has no second copy: if this site is lost, so is the machine."
    if copy.where is Copy.THERE:
        if copy.trouble_text:
            yield f"Its copy on {copy.core_name} gets no newer points: {copy.trouble_text}."
        elif copy.point_at is None:
            yield f"No recovery point has arrived on {copy.core_name} yet."
    if machine.has_held_job:
        yield "One of its jobs is held since this core's database was restored from a backup."
    seconds = loss_seconds(machine.surviving_at, now)
    # A copy here that is older than the schedule allows is called late by its own room.
    is_told = objectives.is_point_default and copy.where is not Copy.THERE
    if (
        seconds is not None
        and not is_told
        and grade_of(seconds, objectives.point_seconds).is_missed
    ):
        yield (
            f"If it were lost now, {span(seconds)} of data would be lost; the objective is "
            f"{duration_human(objectives.point_seconds)}."
        )
    if prediction is not None and prediction.high_seconds > objectives.recovery_seconds:
        yield (
            f"A recovery is predicted to take {prediction.text}; the objective is "
            f"{duration_human(objectives.recovery_seconds)}."
        )
