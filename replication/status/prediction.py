"""How long a recovery will take, by those that were measured on this core. Pure.

A recovery reads and copies the machine's disks, then starts the machine. Exports measure the first
part, failovers and restores both. What was never measured is not known: nothing is guessed.
"""

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from console.wording import duration_human

# Older ones say little about today's network and vCenter.
SAMPLES_USED = 20


class RecoveryKind(enum.StrEnum):
    """The kinds of jobs that prove that a machine can be recovered; the strongest last."""

    EXPORT = "export"
    RESTORE = "restore"
    FAILOVER = "failover"

    @property
    def label(self) -> str:
        return {"export": "Export to a VM", "restore": "Restore", "failover": "Failover"}[self]


@dataclass(frozen=True)
class Recovery:
    """One that succeeded, as its job measured it.

    copy_seconds: proving the chain and copying the disks.
    start_seconds: from then on until the machine answered; none if it was not started.
    """

    kind: RecoveryKind
    machine_id: UUID
    ended_at: datetime
    url: str
    copied_bytes: int
    copy_seconds: float
    start_seconds: float | None = None

    @property
    def seconds(self) -> float:
        return self.copy_seconds + (self.start_seconds or 0.0)


@dataclass(frozen=True)
class Prediction:
    """A range, and what it rests on.

    is_whole: whether starting the machine was measured too. If not, it takes longer than this.
    rests_on: in words.
    recoveries: the jobs behind it, newest first.
    """

    low_seconds: float
    high_seconds: float
    is_whole: bool
    rests_on: str
    recoveries: tuple[Recovery, ...]

    @property
    def text(self) -> str:
        low, high = _rounded(self.low_seconds, math.floor), _rounded(self.high_seconds, math.ceil)
        span = low if low == high else f"{low} to {high}"
        return span if self.is_whole else f"{span} to copy"


def predict(least_bytes: int, most_bytes: int, recoveries: Sequence[Recovery]) -> Prediction | None:
    """Return how long it takes to recover a machine of this size; none if nothing was measured.

    recoveries: those of this core, newest first.
    """
    measured = [one for one in recoveries if one.copied_bytes > 0 and one.copy_seconds > 0]
    # A restore writes to another computer than a failover does.
    into_vms = [one for one in measured if one.kind is not RecoveryKind.RESTORE]
    used = (into_vms or measured)[:SAMPLES_USED]
    if not used or most_bytes <= 0:
        return None
    rates_bps = [one.copied_bytes / one.copy_seconds for one in used]
    starts = [one.start_seconds for one in used if one.start_seconds is not None]
    return Prediction(
        low_seconds=least_bytes / max(rates_bps) + min(starts, default=0.0),
        high_seconds=most_bytes / min(rates_bps) + max(starts, default=0.0),
        is_whole=bool(starts),
        rests_on=_rests_on(used),
        recoveries=tuple(used),
    )


def _rounded(seconds: float, to_whole: Callable[[float], int]) -> str:
    """Return a duration in words, in whole minutes from one minute on."""
    unit_seconds = 60 if seconds >= 60 else 1
    return duration_human(to_whole(seconds / unit_seconds) * unit_seconds)


def _rests_on(used: Sequence[Recovery]) -> str:
    counts = [(kind, sum(one.kind == kind for one in used)) for kind in reversed(RecoveryKind)]
    words = [f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts if count]
    measured = f"{words[0]} and {words[1]}" if len(words) == 2 else ", ".join(words)
    if any(one.start_seconds is not None for one in used):
        return f"{measured} measured here"
    return f"{measured} measured here; no machine was started yet, which takes longer"
