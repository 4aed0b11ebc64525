"""What a failback will cost, said before it begins. Pure: facts of the store and of past jobs in.

Bytes that are there are counted exactly. What the machine still writes until it is frozen is judged
by what it wrote lately, and times by what this core's own jobs took; without any, by modest rates.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

DEFAULT_SEND_BPS = 50_000_000
DEFAULT_RESTORE_BPS = 60_000_000
DEFAULT_PROVE_BPS = 400_000_000
DEFAULT_READ_BPS = 200_000_000
DEFAULT_BOOT_SECONDS = 120.0
# What the cores need beside copying: power off, hand over, starting each other's jobs.
OVERHEAD_SECONDS = 10.0
# How long a watched machine is frozen before what changed begins to be read.
FREEZE_SECONDS = 2.0
# How long the machine writes on until a look has become a start, and the copy a freeze.
LOOK_SECONDS = 30.0
_LATE_POINTS = 6


@dataclass(frozen=True)
class PastPoint:
    """An incremental that was taken lately, and how long after its parent."""

    stored_bytes: int
    interval_seconds: float


@dataclass(frozen=True)
class QuoteFacts:
    """What a quote is made of."""

    # Of the files of the points that the source core lacks.
    missing_bytes: int
    missing_points: int
    # Whether the source core holds any point that the newest one builds on.
    has_common_point: bool
    # Of the newest point as it is written to blank disks.
    restore_bytes: int
    capacity_bytes: int
    newest_age_seconds: float
    # A point is being taken, and will be sent with the others.
    is_taking_point: bool = False
    # Whether its agent can tell what was written while the last point was sent and restored; if
    # not, whole disks are read while it is frozen.
    can_watch: bool = False
    past_points: Sequence[PastPoint] = ()
    # Measured by this core's own jobs; none where it has not done that yet.
    send_bps: float | None = None
    restore_bps: float | None = None
    snapshot_seconds: float | None = None
    boot_seconds: float | None = None


@dataclass(frozen=True)
class Quote:
    """Bytes and seconds of one machine's failback."""

    send_bytes: int
    send_points: int
    restore_bytes: int
    final_bytes: int
    copy_seconds: float
    down_seconds: float
    has_common_point: bool
    # Disks of the rescue machine that hold something now: device and content.
    overwritten: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def make_quote(facts: QuoteFacts, overwritten: Sequence[dict[str, Any]] = ()) -> Quote:
    """Return what the failback of one machine will take."""
    send_bps = facts.send_bps or DEFAULT_SEND_BPS
    restore_bps = facts.restore_bps or DEFAULT_RESTORE_BPS
    snapshot_seconds = facts.snapshot_seconds or facts.capacity_bytes / DEFAULT_READ_BPS
    catch_up_bytes = changed_bytes(facts.past_points, facts.newest_age_seconds + LOOK_SECONDS)
    if facts.is_taking_point:
        catch_up_bytes = changed_bytes(facts.past_points, facts.newest_age_seconds)
        catch_up_bytes += changed_bytes(facts.past_points, LOOK_SECONDS)
    first_bytes = facts.missing_bytes + catch_up_bytes
    restore_bytes = facts.restore_bytes + catch_up_bytes
    first_seconds = (
        snapshot_seconds
        + first_bytes / send_bps
        + restore_bytes / DEFAULT_PROVE_BPS
        + restore_bytes / restore_bps
    )
    running_bytes = changed_bytes(facts.past_points, first_seconds)
    running_seconds = snapshot_seconds + running_bytes / send_bps + running_bytes / restore_bps
    final_bytes = changed_bytes(facts.past_points, running_seconds + OVERHEAD_SECONDS)
    down_seconds = (
        (FREEZE_SECONDS if facts.can_watch else snapshot_seconds)
        + final_bytes / send_bps
        + final_bytes / restore_bps
        + (facts.boot_seconds or DEFAULT_BOOT_SECONDS)
        + OVERHEAD_SECONDS
    )
    return Quote(
        send_bytes=first_bytes + running_bytes + final_bytes,
        send_points=facts.missing_points + facts.is_taking_point + 3,
        restore_bytes=restore_bytes + running_bytes,
        final_bytes=final_bytes,
        copy_seconds=first_seconds + running_seconds,
        down_seconds=down_seconds,
        has_common_point=facts.has_common_point,
        overwritten=list(overwritten),
    )


def changed_bytes(past_points: Sequence[PastPoint], seconds: float) -> int:
    """Return how large an incremental will be that is taken so long after its parent.

    A machine changes much the same blocks again and again: a longer time is worth less than its
    share, and a point is never judged above the largest that it lately had. Nor is it judged below
    what a shorter time took: some blocks are written however short it is.
    """
    lately = [point for point in past_points if point.interval_seconds > 0][:_LATE_POINTS]
    if not lately:
        return 0
    usual_bytes = median(point.stored_bytes for point in lately)
    usual_seconds = median(point.interval_seconds for point in lately)
    share = math.sqrt(max(0.0, seconds) / usual_seconds)
    most_bytes = max(point.stored_bytes for point in lately)
    shorter = [point.stored_bytes for point in past_points if 0 < point.interval_seconds <= seconds]
    return round(max(min(usual_bytes * share, most_bytes), min(shorter, default=0)))


def add_quotes(quotes: Sequence[Quote]) -> Quote:
    """Return what several machines take together: bytes add up, the slowest machine counts."""
    return Quote(
        send_bytes=sum(quote.send_bytes for quote in quotes),
        send_points=sum(quote.send_points for quote in quotes),
        restore_bytes=sum(quote.restore_bytes for quote in quotes),
        final_bytes=sum(quote.final_bytes for quote in quotes),
        copy_seconds=max((quote.copy_seconds for quote in quotes), default=0.0),
        down_seconds=max((quote.down_seconds for quote in quotes), default=0.0),
        has_common_point=all(quote.has_common_point for quote in quotes),
        overwritten=[disk for quote in quotes for disk in quote.overwritten],
    )
