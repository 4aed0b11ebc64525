"""Could the company recover today? The answer for the machines replicated to this core."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, Subquery

from console.readiness import Readiness, ReadinessState
from console.wording import age_text
from protected_machines.choices import ConnectionState, MachineKind, PointState
from protected_machines.models import RecoveryPoint
from replication.choices import Direction
from replication.models import ReplicatedMachine

# The newest point is late once it is older than this many of the machine's intervals.
LATE_AFTER_INTERVALS = 3


@dataclass(frozen=True)
class ArrivedPoints:
    """What this core holds of a machine: its newest point, and its newest proven one."""

    newest_at: datetime | None
    newest_is_damaged: bool
    proven_at: datetime | None


def readiness(now: datetime) -> Iterator[Readiness]:
    """Yield one entry for each machine that could be failed over to this core. One query."""
    points = RecoveryPoint.objects.filter(machine=OuterRef("machine")).order_by("-taken_at")
    proven = points.filter(state=PointState.PROVEN)
    found = (
        ReplicatedMachine.objects.filter(
            pairing__direction=Direction.INCOMING,
            machine__kind__in=[
                MachineKind.REPLICATED,
                MachineKind.PENDING_FAILOVER,
                MachineKind.FAILED_BACK,
            ],
        )
        .select_related("machine", "pairing")
        .defer("machine__description", "machine__agent_certificate_pem")
        .annotate(
            newest_at=Subquery(points.values("taken_at")[:1]),
            newest_state=Subquery(points.values("state")[:1]),
            last_proof_at=Subquery(proven.values("proven_at")[:1]),
        )
    )
    for replicated in found:
        facts: Any = replicated
        held = ArrivedPoints(
            facts.newest_at, facts.newest_state == PointState.DAMAGED, facts.last_proof_at
        )
        yield machine_readiness(replicated, held, now)


def machine_readiness(
    replicated: ReplicatedMachine, points: ArrivedPoints, now: datetime
) -> Readiness:
    """Return the readiness of one machine from its row and its points. Pure."""
    machine = replicated.machine
    reasons = tuple(_reasons(replicated, points, now))
    if points.newest_at is None or (points.newest_is_damaged and points.proven_at is None):
        state, headline = ReadinessState.NOT_READY, "Cannot be failed over"
    elif reasons:
        state, headline = ReadinessState.AT_RISK, "Can be failed over, but at risk"
    else:
        state, headline = ReadinessState.READY, "Can be failed over"
    return Readiness(
        machine_id=machine.pk,
        machine_name=machine.name,
        url=machine.get_absolute_url(),
        state=state,
        headline=headline,
        reasons=reasons,
        newest_point_at=points.newest_at,
        proven_at=points.proven_at,
        evidence_url=f"{machine.get_absolute_url()}#points-title",
        core_name=replicated.pairing.peer_name,
    )


def _reasons(replicated: ReplicatedMachine, points: ArrivedPoints, now: datetime) -> Iterator[str]:
    pairing = replicated.pairing
    if points.newest_at is None:
        yield "No recovery point has arrived yet."
    elif points.newest_is_damaged:
        yield "The newest recovery point is damaged."
    elif points.proven_at is None:
        yield "No recovery point has been proven yet."
    if replicated.machine.kind == MachineKind.PENDING_FAILOVER:
        yield "A failover is in progress."
        return
    if replicated.machine.kind == MachineKind.FAILED_BACK:
        yield "It has failed back. Commit the failback, so that it can be failed over again."
    if pairing.connection_state == ConnectionState.UNREACHABLE:
        yield f"{pairing.peer_name} is unreachable, so no newer points arrive."
    elif pairing.connection_state == ConnectionState.AUTHENTICATION_ERROR:
        yield f"{pairing.peer_name} and this core do not trust each other."
    elif _is_paused(replicated):
        yield "Replication is paused."
    elif replicated.error_text:
        yield f"Replication failed: {replicated.error_text}"
    elif points.newest_at is not None and points.newest_at < now - _late_after(replicated):
        age_seconds = (now - points.newest_at).total_seconds()
        yield f"The newest recovery point was taken {age_text(age_seconds)}, which is late."


def _is_paused(replicated: ReplicatedMachine) -> bool:
    pairing = replicated.pairing
    return (
        replicated.is_paused
        or replicated.is_paused_by_peer
        or pairing.is_paused
        or pairing.is_paused_by_peer
    )


def _late_after(replicated: ReplicatedMachine) -> timedelta:
    interval_seconds = replicated.machine.snapshot_interval_seconds
    return timedelta(seconds=LATE_AFTER_INTERVALS * interval_seconds + 60)
