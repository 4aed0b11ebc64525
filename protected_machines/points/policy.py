"""When a snapshot is due, and of what kind it will be. Pure functions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from console.pace import is_within
from protected_machines.choices import PointKind

# After a failed attempt, the schedule waits this long, or one interval if that is shorter.
RETRY_AFTER_SECONDS = 60


@dataclass(frozen=True)
class ScheduleFacts:
    """What the schedule needs to know about a machine that this core owns."""

    machine_id: UUID
    is_paused: bool
    has_open_job: bool
    interval_seconds: int
    # Both by this core's own record. The time of a point is another clock's.
    last_success_at: datetime | None
    tried_at: datetime | None


def is_snapshot_due(facts: ScheduleFacts, now: datetime) -> bool:
    """Whether the schedule takes a point of the machine now."""
    if facts.is_paused or facts.has_open_job:
        return False
    pause_seconds = min(RETRY_AFTER_SECONDS, facts.interval_seconds)
    if is_within(facts.tried_at, pause_seconds, now):
        return False
    return not is_within(facts.last_success_at, facts.interval_seconds, now)


def due_machines(all_facts: Iterable[ScheduleFacts], now: datetime) -> list[UUID]:
    """Return the machines whose snapshot is due: those without a success first, then by age."""
    due = [facts for facts in all_facts if is_snapshot_due(facts, now)]
    due.sort(key=lambda facts: (facts.last_success_at is not None, facts.last_success_at or now))
    return [facts.machine_id for facts in due]


@dataclass(frozen=True)
class ParentCandidate:
    """A point that an incremental could build on."""

    point_id: str
    is_damaged: bool


@dataclass(frozen=True)
class KindChoice:
    """Which kind of point will be taken, on which parent, and why not the kind asked for."""

    kind: PointKind
    parent_ids: tuple[str, ...]
    reason: str = ""


def choose_kind(asked: PointKind, candidates: Sequence[ParentCandidate]) -> KindChoice:
    """Decide between an incremental and a base image.

    `candidates` are the machine's points, oldest first. `parent_ids` are the possible parents,
    best first; a damaged point never is one.
    """
    if asked == PointKind.BASE_IMAGE:
        return KindChoice(PointKind.BASE_IMAGE, ())
    good = tuple(point.point_id for point in reversed(candidates) if not point.is_damaged)
    if good:
        return KindChoice(PointKind.INCREMENTAL, good)
    if candidates:
        return KindChoice(PointKind.BASE_IMAGE, (), "every earlier recovery point is damaged")
    return KindChoice(PointKind.BASE_IMAGE, (), "it is the machine's first recovery point")
