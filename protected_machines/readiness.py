"""Whether the machines protected here could be recovered today."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, Subquery

from console.readiness import Readiness, ReadinessState
from protected_machines.choices import VM_KINDS, ConnectionState, PointState
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.models.points import ahead_text, is_ahead
from protected_machines.own_store import store_trouble
from protected_machines.ownership import ownership_trouble, trouble_text

_LATE_AFTER_INTERVALS = 3


def readiness(now: datetime) -> Iterator[Readiness]:
    """Yield one entry for each machine whose points this core takes. One query."""
    # Two index lookups for each machine; Max() would read every point of every machine.
    proven = RecoveryPoint.objects.filter(machine=OuterRef("pk")).proven().newest_first()
    machines = (
        Machine.objects.live()
        .with_newest_point()
        .annotate(
            newest_proven_at=Subquery(proven.values("taken_at")[:1]),
            last_proof_at=Subquery(proven.values("proven_at")[:1]),
        )
        .defer("agent_certificate_pem", "description")
    )
    is_store_there = not store_trouble()
    for machine in machines:
        facts: Any = machine
        points = KnownPoints(
            newest_at=facts.newest_point_at,
            newest_state=facts.newest_point_state or "",
            newest_proven_at=facts.newest_proven_at,
            last_proof_at=facts.last_proof_at,
            is_store_there=is_store_there,
        )
        yield machine_readiness(machine, points, now)


def owner_readiness(now: datetime) -> Iterator[Readiness]:
    """Yield one entry for each machine that nobody may act on until its owner is settled."""
    machines = Machine.objects.with_owner_trouble().with_newest_point()
    for machine in machines.defer("agent_certificate_pem", "description"):
        trouble = ownership_trouble(machine)
        if trouble is None:
            continue
        facts: Any = machine
        yield Readiness(
            machine_id=machine.pk,
            machine_name=machine.name,
            url=machine.get_absolute_url(),
            state=ReadinessState.NOT_READY,
            headline=trouble.label,
            reasons=(trouble_text(machine),),
            newest_point_at=facts.newest_point_at,
            core_name=machine.owner_core_name,
        )


@dataclass(frozen=True)
class KnownPoints:
    """What is known about a machine's points, and whether any of them can be read now."""

    newest_at: datetime | None
    newest_state: str
    newest_proven_at: datetime | None
    last_proof_at: datetime | None
    is_store_there: bool = True

    @property
    def newest_is_damaged(self) -> bool:
        return self.newest_state == PointState.DAMAGED

    @property
    def has_only_damage(self) -> bool:
        return self.newest_proven_at is None and self.newest_is_damaged


def machine_readiness(machine: Machine, points: KnownPoints, now: datetime) -> Readiness:
    """Judge one machine by its row and its points. Pure."""
    reasons = tuple(_reasons(machine, points, now))
    if points.newest_at is None or not points.is_store_there or points.has_only_damage:
        state, headline = ReadinessState.NOT_READY, "Cannot be recovered"
    elif reasons:
        state, headline = ReadinessState.AT_RISK, "Recoverable, but at risk"
    elif machine.kind in VM_KINDS:
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
        newest_point_at=points.newest_at,
        proven_at=points.last_proof_at,
        evidence_url=f"{machine.get_absolute_url()}#points-title",
        core_name=machine.owner_core_name,
    )


def _reasons(machine: Machine, points: KnownPoints, now: datetime) -> Iterator[str]:
    if not points.is_store_there:
        # Every page says where it is expected.
        yield "The store with its recovery points cannot be used."
    if points.newest_at is None:
        yield "No recovery points have been taken yet."
    elif points.newest_is_damaged:
        yield "The newest recovery point is damaged."
    elif points.newest_proven_at is None:
        yield "No recovery point has been proven yet."
    if points.newest_at is not None and is_ahead(points.newest_at, now):
        yield ahead_text(points.newest_at, now, "The newest")
    if machine.is_paused:
        yield "Protection is paused."
    elif machine.connection_state == ConnectionState.UNREACHABLE:
        yield "The agent is unreachable."
    elif machine.connection_state == ConnectionState.AUTHENTICATION_ERROR:
        yield "The agent and this core do not trust each other."
    elif points.newest_at is not None and points.newest_at < now - late_after(
        machine.snapshot_interval_seconds
    ):
        yield "The newest recovery point is older than the schedule allows."


def late_after(interval_seconds: int) -> timedelta:
    """Return how old the newest point of this schedule may be before it is late."""
    return timedelta(seconds=_LATE_AFTER_INTERVALS * interval_seconds + 60)
