"""How far another core's clock is off this one's: measured and warned of, never relied on."""

from datetime import datetime, timedelta

from msgspec import UNSET, UnsetType

from console.wording import span
from replication.models import Pairing

# Less is not worth a warning: ages are shown in minutes.
WARN_FROM_SECONDS = 60
# A measurement that may be wrong by more than this is dropped.
_UNSURE_FROM_SECONDS = 15


def record_clock(
    pairing: Pairing, peer_now: datetime | UnsetType, asked_at: datetime, took_seconds: float = 0
) -> None:
    """Save how far the peer's clock is ahead, by the time in its answer.

    Half the time that the call took is the error. Without an answer's time (an older version) it
    becomes unknown; after a call that took too long, what was known stays.
    """
    if took_seconds / 2 > _UNSURE_FROM_SECONDS:
        return
    ahead_seconds = None
    if peer_now is not UNSET:
        middle = asked_at + timedelta(seconds=took_seconds / 2)
        ahead_seconds = round((peer_now - middle).total_seconds())
    if ahead_seconds != pairing.clock_ahead_seconds:
        pairing.clock_ahead_seconds = ahead_seconds
        pairing.save(update_fields=["clock_ahead_seconds"])


def clock_text(ahead_seconds: int | None) -> str:
    """Return what a core's clock is, in words; empty if the difference is not worth one."""
    if ahead_seconds is None or abs(ahead_seconds) < WARN_FROM_SECONDS:
        return ""
    side = "ahead of" if ahead_seconds > 0 else "behind"
    return f"{span(abs(ahead_seconds))} {side} this core's"
