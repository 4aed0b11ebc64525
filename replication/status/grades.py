"""What objectives are, and how the facts compare with them. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from protected_machines.models.points import is_ahead
from protected_machines.readiness import late_after

# Of each core and machine for which nobody has set another one.
DEFAULT_RECOVERY_SECONDS = 4 * 3600


class Grade(StrEnum):
    """How many times its objective something is. Worst last."""

    WITHIN = "within"
    UNKNOWN = "unknown"
    DOUBLE = "double"
    QUADRUPLE = "quadruple"
    BEYOND = "beyond"

    @property
    def tone(self) -> str:
        return _TONES_AND_LABELS[self][0]

    @property
    def label(self) -> str:
        return _TONES_AND_LABELS[self][1]

    @property
    def is_missed(self) -> bool:
        """Whether the objective is known to be missed."""
        return self in (Grade.DOUBLE, Grade.QUADRUPLE, Grade.BEYOND)


_TONES_AND_LABELS = {
    Grade.WITHIN: ("ok", "Within objective"),
    Grade.UNKNOWN: ("off", "Not known"),
    Grade.DOUBLE: ("warn", "Up to 2× objective"),
    Grade.QUADRUPLE: ("warn", "Up to 4× objective"),
    Grade.BEYOND: ("bad", "Beyond 4× objective"),
}
GRADES = list(Grade)


@dataclass(frozen=True)
class Objectives:
    """How much data may be lost, in seconds, and how long a recovery may take.

    is_point_default: nobody set the first; it follows from the snapshot schedule.
    """

    point_seconds: float
    recovery_seconds: float = DEFAULT_RECOVERY_SECONDS
    is_point_default: bool = True


@dataclass(frozen=True)
class SetObjectives:
    """What was set for a core or a machine; none where nothing was."""

    point_seconds: int | None = None
    recovery_seconds: int | None = None


def objectives_of(
    interval_seconds: int, of_core: SetObjectives | None, of_machine: SetObjectives | None
) -> Objectives:
    """Return a machine's objectives: its own, else those of its core, else the defaults.

    By default, a point may be as old as the schedule allows before the home page calls it late.
    """
    chosen = [one for one in (of_machine, of_core) if one is not None]
    point = next((one.point_seconds for one in chosen if one.point_seconds), None)
    recovery = next((one.recovery_seconds for one in chosen if one.recovery_seconds), None)
    return Objectives(
        point_seconds=point or late_after(interval_seconds).total_seconds(),
        recovery_seconds=recovery or DEFAULT_RECOVERY_SECONDS,
        is_point_default=point is None,
    )


def grade_of(seconds: float | None, objective_seconds: float) -> Grade:
    """Return how many times the objective this is; 1×, 2× and 4× belong to the better grade."""
    if seconds is None:
        return Grade.UNKNOWN
    if seconds <= objective_seconds:
        return Grade.WITHIN
    if seconds <= 2 * objective_seconds:
        return Grade.DOUBLE
    return Grade.QUADRUPLE if seconds <= 4 * objective_seconds else Grade.BEYOND


def worst(grades: list[Grade]) -> Grade:
    return max(grades, key=GRADES.index, default=Grade.UNKNOWN)


def loss_seconds(point_at: datetime | None, now: datetime) -> float | None:
    """Return how much would be lost if the machine continued from this point.

    Not known without a point, and if one is dated so far ahead that a clock is wrong.
    """
    if point_at is None or is_ahead(point_at, now):
        return None
    return max(0.0, (now - point_at).total_seconds())
