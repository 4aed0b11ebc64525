"""The data-loss clock: what would be lost if the machine's site were lost now. Pure."""

from dataclasses import dataclass
from datetime import datetime

from console.wording import bytes_human
from replication.status.facts import Copy, MachineFacts
from replication.status.grades import loss_seconds


@dataclass(frozen=True)
class Loss:
    """What would be lost. None where it is not known; `rests_on` says why, or by what it is."""

    seconds: float | None
    bytes: int | None
    rests_on: str


def loss_of(machine: MachineFacts, now: datetime) -> Loss:
    """Return what would be lost of a machine.

    The points that wait to be sent are counted. What was written since the newest of them is
    estimated from the machine's latest points, as if it never wrote the same block twice.
    """
    seconds = loss_seconds(machine.surviving_at, now)
    if machine.surviving_at is None:
        return Loss(None, None, "There is no point to continue from.")
    if seconds is None:
        return Loss(None, None, "The newest point is dated ahead of this core's clock.")
    copy = machine.copy
    since = loss_seconds(max(copy.newest_at or machine.surviving_at, machine.surviving_at), now)
    waiting_bytes = copy.waiting_bytes if copy.where is not Copy.NONE else 0
    if machine.changes is None or since is None:
        told = f"{bytes_human(waiting_bytes)} wait to be sent, and " if waiting_bytes else ""
        return Loss(
            seconds, None, f"Not known: {told}two incremental points are needed to know the rest."
        )
    written_bytes = round(machine.changes.bytes_per_second * since)
    return Loss(seconds, waiting_bytes + written_bytes, _rests_on(machine, written_bytes))


def _rests_on(machine: MachineFacts, written_bytes: int) -> str:
    copy = machine.copy
    written = f"up to about {bytes_human(written_bytes)} written since, by its latest points"
    if not copy.waiting_points:
        return f"{written[0].upper()}{written[1:]}."
    points = "1 point" if copy.waiting_points == 1 else f"{copy.waiting_points} points"
    return f"{points} of {bytes_human(copy.waiting_bytes)} wait to be sent, {written}."
