"""What the machines protected here say to the question: could the company recover today?"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Max, Q

from console.readiness import Readiness, ReadinessState
from protected_machines.choices import ConnectionState, MachineKind, PointState
from protected_machines.models import Machine

# A point that is older than so many intervals is late.
LATE_AFTER_INTERVALS = 3


def readiness(now: datetime) -> Iterator[Readiness]:
    """Yield one entry for each machine whose points this core takes. One query."""
    machines = (
        Machine.objects.live()
        .with_newest_point()
        .annotate(
            newest_proven_at=Max("points__taken_at", filter=Q(points__state=PointState.PROVEN)),
            last_proof_at=Max("points__proven_at", filter=Q(points__state=PointState.PROVEN)),
        )
        .defer("agent_certificate_pem", "description")
    )
    for machine in machines:
        yield machine_readiness(machine, now)


def machine_readiness(machine: Machine, now: datetime) -> Readiness:
    """Judge one machine, which carries the annotations of `readiness`. Pure."""
    newest_at = machine.newest_point_at  # type: ignore[attr-defined]
    proven_at = machine.newest_proven_at  # type: ignore[attr-defined]
    reasons = tuple(_reasons(machine, newest_at, proven_at, now))
    if newest_at is None or (proven_at is None and _newest_is_damaged(machine)):
        state, headline = ReadinessState.NOT_READY, "Cannot be recovered"
    elif reasons:
        state, headline = ReadinessState.AT_RISK, "Recoverable, with doubts"
    elif machine.kind == MachineKind.FAILED_OVER:
        state, headline = ReadinessState.FAILED_OVER, "Failed over, protected here"
    else:
        state, headline = ReadinessState.READY, "Recoverable"
    return Readiness(
        machine_id=machine.pk,
        machine_name=machine.name,
        url=machine.get_absolute_url(),
        state=state,
        headline=headline,
        reasons=reasons,
        newest_point_at=newest_at,
        proven_at=machine.last_proof_at,  # type: ignore[attr-defined]
        evidence_url=f"{machine.get_absolute_url()}#points-title",
        place=machine.owner_core_name,
    )


def _reasons(
    machine: Machine, newest_at: datetime | None, proven_at: datetime | None, now: datetime
) -> Iterator[str]:
    if newest_at is None:
        yield "No recovery point was taken yet."
    elif _newest_is_damaged(machine):
        yield "The newest recovery point is damaged."
    elif proven_at is None:
        yield "No recovery point was proven yet."
    if machine.is_paused:
        yield "Protection is paused."
    elif machine.connection_state == ConnectionState.UNREACHABLE:
        yield "The agent cannot be reached."
    elif machine.connection_state == ConnectionState.AUTHENTICATION_ERROR:
        yield "The agent and this core do not trust each other."
    elif newest_at is not None and newest_at < now - _late_after(machine):
        yield "The newest recovery point is older than the schedule allows."


def _newest_is_damaged(machine: Machine) -> bool:
    return machine.newest_point_state == PointState.DAMAGED  # type: ignore[attr-defined]


def _late_after(machine: Machine) -> timedelta:
    return timedelta(seconds=LATE_AFTER_INTERVALS * machine.snapshot_interval_seconds + 60)
