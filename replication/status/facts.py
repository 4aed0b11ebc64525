"""What DR status knows of each machine, gathered with a constant number of queries."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import Count, F, Max, Min, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from console.identity import this_core
from console.jobs.choices import JobState, StepState
from console.jobs.models import Job, JobStep
from protected_machines.choices import (
    LIVE_KINDS,
    VM_KINDS,
    ConnectionState,
    MachineKind,
    PointKind,
)
from protected_machines.models import Machine, RecoveryPoint
from replication.choices import Direction
from replication.models import Pairing, RecoveryObjective, ReplicatedMachine
from replication.status.grades import SetObjectives
from replication.status.prediction import Recovery, RecoveryKind

_RECENT_POINTS = 8
_JOBS_READ = 200
_REPLICA_KINDS = (MachineKind.REPLICATED, MachineKind.PENDING_FAILOVER, MachineKind.FAILED_BACK)


class Copy(StrEnum):
    """Where the copy of a machine is that survives the loss of its site."""

    HERE = "here"
    # Here, and perhaps nowhere else: its source core is unreachable.
    ONLY = "only"
    THERE = "there"
    NONE = "none"


@dataclass(frozen=True)
class SecondCopy:
    """The surviving copy of a machine, and what keeps it from getting newer points.

    core_name: the core that holds it, or for a copy that is here, the core that sends it.
    waiting_points, waiting_bytes: what it lacks, as the sending core counted.
    newest_at: the newest point that the sending core holds.
    """

    where: Copy = Copy.NONE
    core_name: str = ""
    point_at: datetime | None = None
    newest_at: datetime | None = None
    waiting_points: int = 0
    waiting_bytes: int = 0
    trouble_text: str = ""
    url_id: uuid.UUID | None = None


@dataclass(frozen=True)
class RecentChanges:
    """What the machine writes, by its latest incrementals: their usual size and interval."""

    usual_bytes: float
    usual_seconds: float

    @property
    def bytes_per_second(self) -> float:
        return self.usual_bytes / self.usual_seconds


@dataclass(frozen=True)
class MachineFacts:
    """One machine. Times of points are those at which they were taken.

    core_id, core_name: the source core to which it belongs, wherever it runs now.
    """

    machine_id: uuid.UUID
    name: str
    core_id: uuid.UUID
    core_name: str
    kind: str
    interval_seconds: int
    copy: SecondCopy = field(default_factory=SecondCopy)
    # The newest point here that is not damaged.
    newest_at: datetime | None = None
    # The newest proven point, when it was read back, and what was added since.
    proven_point_at: datetime | None = None
    proven_at: datetime | None = None
    newer_points: int = 0
    newer_bytes: int = 0
    # What a recovery copies is between these.
    least_bytes: int = 0
    most_bytes: int = 0
    changes: RecentChanges | None = None
    has_held_job: bool = False
    # Whether it is this core that would recover it. If not, others only dispute its owner.
    is_listed: bool = True

    @property
    def is_in_vm(self) -> bool:
        """Whether it runs in a VM here since a failover."""
        return self.kind in VM_KINDS

    @property
    def surviving_at(self) -> datetime | None:
        """The newest point that survives the loss of the place where the machine runs."""
        return self.copy.point_at if self.copy.where is Copy.THERE else self.newest_at


@dataclass(frozen=True)
class StatusFacts:
    """All machines, and what was measured and set on this core."""

    machines: Mapping[uuid.UUID, MachineFacts]
    # Newest first.
    recoveries: tuple[Recovery, ...]
    objectives: Mapping[uuid.UUID, SetObjectives]


def gather_facts() -> StatusFacts:
    """Read everything, with as many queries for one machine as for thousands."""
    copies = _copies()
    held = set(Job.objects.filter(state=JobState.HELD).values_list("subject_id", flat=True))
    names = dict(Pairing.objects.values_list("peer_core_id", "peer_name"))
    machines = {
        row.pk: _machine_facts(row, copies.get(row.pk), names, row.pk in held)
        for row in _machines()
    }
    objectives = {
        row.subject_id: SetObjectives(row.point_seconds, row.recovery_seconds)
        for row in RecoveryObjective.objects.all()
    }
    return StatusFacts(machines, tuple(past_recoveries()), objectives)


def _machines() -> Iterable[Any]:
    """Return the machines with the facts about their points as annotations. One query."""
    points = RecoveryPoint.objects.filter(machine=OuterRef("pk"))
    usable, proven = points.usable().newest_first(), points.proven().newest_first()
    base = points.filter(kind=PointKind.BASE_IMAGE).newest_first()
    newer = points.filter(position__gt=OuterRef("proven_position"))
    chain = points.carried_on().filter(position__gte=OuterRef("base_position"))
    recent = points.filter(
        kind=PointKind.INCREMENTAL, position__gt=OuterRef("newest_position") - _RECENT_POINTS
    )
    return (
        Machine.objects.defer("agent_certificate_pem")
        .annotate(
            newest_at=Subquery(usable.values("taken_at")[:1]),
            newest_position=Subquery(points.newest_first().values("position")[:1]),
            proven_point_at=Subquery(proven.values("taken_at")[:1]),
            proven_at=Subquery(proven.values("proven_at")[:1]),
            proven_position=Coalesce(Subquery(proven.values("position")[:1]), 0),
            base_position=Subquery(base.values("position")[:1]),
            base_bytes=Subquery(base.values("stored_bytes")[:1]),
        )
        .annotate(
            newer_points=_total(newer, Count("pk")),
            newer_bytes=_total(newer, Sum("stored_bytes")),
            chain_bytes=_total(chain, Sum("stored_bytes")),
            recent_count=_total(recent, Count("pk")),
            recent_bytes=_total(recent, Sum("stored_bytes")),
            recent_from=_total(recent, Min("taken_at")),
            recent_to=_total(recent, Max("taken_at")),
        )
    )


def _total(points: QuerySet[RecoveryPoint], aggregate: Any) -> Subquery:
    """Return one figure over the points of each machine."""
    grouped = points.order_by().values("machine_id").annotate(figure=aggregate)
    return Subquery(grouped.values("figure"))


def _machine_facts(
    row: Any, copy: SecondCopy | None, names: Mapping[uuid.UUID, str], has_held_job: bool
) -> MachineFacts:
    core_id = row.source_core_id or row.owner_core_id
    this = this_core()
    is_listed = row.is_live or (copy is not None and row.kind in _REPLICA_KINDS)
    capacity_bytes = sum(disk.capacity_bytes for disk in row.disks)
    chain_bytes = row.chain_bytes or 0
    return MachineFacts(
        machine_id=row.pk,
        name=row.name,
        core_id=core_id,
        core_name=this.name if str(core_id) == this.id else names.get(core_id, row.owner_core_name),
        kind=row.kind,
        interval_seconds=row.snapshot_interval_seconds,
        copy=copy or SecondCopy(),
        newest_at=row.newest_at,
        proven_point_at=row.proven_point_at,
        proven_at=row.proven_at,
        newer_points=row.newer_points or 0,
        newer_bytes=row.newer_bytes or 0,
        least_bytes=min(row.base_bytes or 0, chain_bytes),
        most_bytes=min(chain_bytes, capacity_bytes) if capacity_bytes else chain_bytes,
        changes=_changes(row),
        has_held_job=has_held_job,
        is_listed=is_listed,
    )


def _changes(row: Any) -> RecentChanges | None:
    count = row.recent_count or 0
    if count < 2:
        return None
    seconds = (row.recent_to - row.recent_from).total_seconds() / (count - 1)
    return RecentChanges((row.recent_bytes or 0) / count, seconds) if seconds > 0 else None


def _copies() -> dict[uuid.UUID, SecondCopy]:
    """Return the surviving copy of each replicated machine; of several, the newest one."""
    live_here = Q(machine__owner_core_id=this_core().id, machine__kind__in=LIVE_KINDS)
    counts = Q(pairing__direction=Direction.INCOMING) & ~live_here
    counts |= Q(pairing__direction=Direction.OUTGOING) & live_here
    rows = ReplicatedMachine.objects.filter(counts).select_related("pairing")
    copies: dict[uuid.UUID, SecondCopy] = {}
    for row in rows.order_by(F("last_point_at").asc(nulls_first=True), "pk"):
        copies[row.machine_id] = _copy(row)
    return copies


def _copy(row: ReplicatedMachine) -> SecondCopy:
    return SecondCopy(
        where=_place_of(row.pairing),
        core_name=row.pairing.peer_name,
        point_at=row.last_point_at,
        newest_at=row.newest_point_at,
        waiting_points=row.behind_points,
        waiting_bytes=row.behind_bytes,
        trouble_text=_trouble_of(row),
        url_id=row.pk,
    )


def _place_of(pairing: Pairing) -> Copy:
    if pairing.is_outgoing:
        return Copy.THERE
    is_silent = pairing.connection_state == ConnectionState.UNREACHABLE
    return Copy.ONLY if is_silent else Copy.HERE


def _trouble_of(row: ReplicatedMachine) -> str:
    """Return why no newer points arrive; empty if they do."""
    pairing = row.pairing
    if pairing.connection_state == ConnectionState.UNREACHABLE:
        return f"{pairing.peer_name} is unreachable"
    if pairing.connection_state == ConnectionState.AUTHENTICATION_ERROR:
        return f"{pairing.peer_name} and this core do not trust each other"
    if row.is_paused_anywhere:
        return "replication is paused"
    return f"replication failed: {row.error_text.rstrip('.')}" if row.error_text else ""


# Of each kind: the steps that copy, the one that copies the most, and the one at whose end the
# machine answers again.
_COPYING = {
    RecoveryKind.FAILOVER: ("prove_chain", "export_vm", "protect_here"),
    RecoveryKind.EXPORT: ("prove_chain", "import_vm", ""),
    RecoveryKind.RESTORE: ("prove_chain", "restore_disks", "wait_for_machine"),
}


def past_recoveries() -> Iterable[Recovery]:
    """Yield the recoveries that succeeded on this core, newest first. Two queries.

    The end of a failover is when the machine is protected here: the snapshots that it then takes
    are no longer part of the recovery.
    """
    jobs = Job.objects.filter(kind__in=[*_COPYING], state=JobState.SUCCEEDED)
    for job in jobs.prefetch_related("steps").order_by("-finished_at")[:_JOBS_READ]:
        recovery = _recovery(job)
        if recovery is not None:
            yield recovery


def _recovery(job: Job) -> Recovery | None:
    kind = RecoveryKind(job.kind)
    steps = {step.name: step for step in job.steps.all() if step.state == StepState.SUCCEEDED}
    first, copying, last = _COPYING[kind]
    began, copied, answered = steps.get(first), steps.get(copying), steps.get(last)
    if began is None or copied is None or job.finished_at is None:
        return None
    copy_seconds = _seconds_between(began.started_at, copied)
    if copy_seconds is None:
        return None
    return Recovery(
        kind=kind,
        machine_id=job.subject_id,
        ended_at=job.finished_at,
        url=job.get_absolute_url(),
        copied_bytes=copied.done_bytes,
        copy_seconds=copy_seconds,
        start_seconds=_seconds_between(copied.finished_at, answered) if answered else None,
    )


def _seconds_between(since: datetime | None, step: JobStep) -> float | None:
    """Return how long until a step ended; none if the clock was set back meanwhile."""
    if since is None or step.finished_at is None or step.finished_at < since:
        return None
    return (step.finished_at - since).total_seconds()
