"""What a failback will take, estimated before it starts. Pure.

Bytes that exist are counted exactly. What the machine will still write before it is frozen is
estimated from its latest points, and times from this core's past jobs, or from modest defaults.
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
# What the cores need besides copying: power off, hand over, start jobs for each other.
OVERHEAD_SECONDS = 10.0
# How long a watched machine is frozen before its changes are read.
FREEZE_SECONDS = 2.0
# How long the machine keeps writing between this estimate and the start of the job.
START_SECONDS = 30.0
_LATE_POINTS = 6


@dataclass(frozen=True)
class PastPoint:
    """A recent incremental, and how long after its parent it was taken."""

    stored_bytes: int
    interval_seconds: float


@dataclass(frozen=True)
class QuoteFacts:
    """The facts behind a quote."""

    # The size of the points that the source core lacks.
    missing_bytes: int
    missing_points: int
    # Whether the source core holds a point that the newest one builds on.
    has_common_point: bool
    # What a restore of the newest point writes to blank disks.
    restore_bytes: int
    capacity_bytes: int
    newest_age_seconds: float
    # Whether a point is being taken, which will be sent with the others.
    is_taking_point: bool = False
    # Whether the agent can track writes while the last point is sent and restored. If it cannot,
    # whole disks are read while the machine is frozen.
    can_watch: bool = False
    past_points: Sequence[PastPoint] = ()
    # Measured in this core's past jobs; none if there are none.
    send_bps: float | None = None
    restore_bps: float | None = None
    snapshot_seconds: float | None = None
    boot_seconds: float | None = None


@dataclass(frozen=True)
class Quote:
    """How many bytes and seconds one machine's failback will take."""

    send_bytes: int
    send_points: int
    restore_bytes: int
    final_bytes: int
    copy_seconds: float
    down_seconds: float
    has_common_point: bool
    # Disks of the rescue machine that hold data now: device and content.
    overwritten: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def make_quote(facts: QuoteFacts, overwritten: Sequence[dict[str, Any]] = ()) -> Quote:
    """Return what the failback of one machine will take."""
    send_bps = facts.send_bps or DEFAULT_SEND_BPS
    restore_bps = facts.restore_bps or DEFAULT_RESTORE_BPS
    snapshot_seconds = facts.snapshot_seconds or facts.capacity_bytes / DEFAULT_READ_BPS
    catch_up_bytes = changed_bytes(facts.past_points, facts.newest_age_seconds + START_SECONDS)
    if facts.is_taking_point:
        catch_up_bytes = changed_bytes(facts.past_points, facts.newest_age_seconds)
        catch_up_bytes += changed_bytes(facts.past_points, START_SECONDS)
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
    """Estimate the size of an incremental taken so many seconds after its parent.

    A machine keeps changing the same blocks, so the size grows more slowly than the time and never
    exceeds the largest recent point. It is at least that of a recent point taken after a shorter
    time: some blocks are always written.
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
    """Return the quote for several machines: bytes are added, the slowest machine's times count."""
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
