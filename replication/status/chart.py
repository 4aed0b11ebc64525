"""The history as a chart: columns of stacked segments, in the units of an SVG. Pure."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from replication.status.history import Day

WIDTH, HEIGHT = 900, 160
_GAP = 4


@dataclass(frozen=True)
class Segment:
    """A part of a column. `tone` is ok, warn or bad."""

    tone: str
    y: float
    height: float


@dataclass(frozen=True)
class Column:
    """One day. Without segments, nothing was recorded."""

    day: datetime.date
    x: float
    width: float
    segments: tuple[Segment, ...]
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart with its scale, and what it shows in a sentence."""

    columns: tuple[Column, ...]
    most: int
    text: str
    width: int = WIDTH
    height: int = HEIGHT


def draw(days: Sequence[Day]) -> Chart | None:
    """Return the chart of these days; none if nothing was recorded."""
    most = max((day.total for day in days), default=0)
    if not most:
        return None
    step = WIDTH / len(days)
    columns = [_column(day, number * step, step - _GAP, most) for number, day in enumerate(days)]
    return Chart(tuple(columns), most, _in_words(days))


def _column(day: Day, x: float, width: float, most: int) -> Column:
    segments = []
    y = float(HEIGHT)
    for tone, count in (("ok", day.ready), ("warn", day.at_risk), ("bad", day.not_ready)):
        if count:
            height = HEIGHT * count / most
            y -= height
            segments.append(Segment(tone, round(y, 2), round(height, 2)))
    return Column(day.day, round(x, 2), round(width, 2), tuple(segments), _day_text(day))


def _day_text(day: Day) -> str:
    if not day.total:
        return f"{day.day}: nothing recorded"
    return f"{day.day}: {day.ready} ready, {day.at_risk} at risk, {day.not_ready} not recoverable"


def _in_words(days: Sequence[Day]) -> str:
    """Return what the chart shows, for those who do not see it."""
    recorded = [day for day in days if day.total]
    good = sum(not day.at_risk and not day.not_ready for day in recorded)
    bad = sum(day.not_ready > 0 for day in recorded)
    days_recorded = "1 day" if len(recorded) == 1 else f"{len(recorded)} days"
    return (
        f"{days_recorded} recorded: on {good}, every machine was ready all day; on {bad}, some "
        "could not be recovered for a time."
    )
