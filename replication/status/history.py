"""The history of DR status: what is recorded for each day, and how it is read back."""

import datetime
from dataclasses import dataclass

from django.db.models import Count, Max
from django.utils import timezone

from console.readiness import ReadinessState
from replication.models import StatusDay
from replication.status.report import MachineStatus, gather_report

DAYS_SHOWN = 30
DAYS_KEPT = 400
_WORST_LAST = list(ReadinessState)


@dataclass(frozen=True)
class Day:
    """One day: how many machines were in each state at their worst, and the most data at risk.

    Nothing was recorded on a day without machines: the core did not run, or had none.
    """

    day: datetime.date
    counts: dict[ReadinessState, int]
    loss_seconds: int | None = None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def ready(self) -> int:
        """Machines in a green state all day."""
        return self._count(ReadinessState.READY, ReadinessState.FAILED_OVER)

    @property
    def at_risk(self) -> int:
        return self._count(ReadinessState.AT_RISK)

    @property
    def not_ready(self) -> int:
        return self._count(ReadinessState.NOT_READY)

    def _count(self, *states: ReadinessState) -> int:
        return sum(self.counts.get(state, 0) for state in states)


def record_day(now: datetime.datetime) -> None:
    """Keep the worst of today so far for each machine. Harmless when run often, twice or late."""
    day = timezone.localdate(now)
    rows = {row.machine.machine_id: row for row in gather_report(now).machines}
    known = {one.machine_id: one for one in StatusDay.objects.filter(day=day)}
    changed = [
        known[key] for key, row in rows.items() if key in known and _make_worse(known[key], row)
    ]
    StatusDay.objects.bulk_update(changed, ["state", "loss_seconds"], batch_size=500)
    StatusDay.objects.bulk_create(
        [
            StatusDay(
                machine_id=key, day=day, state=row.readiness.state, loss_seconds=_loss_of(row)
            )
            for key, row in rows.items()
            if key not in known
        ],
        batch_size=500,
        ignore_conflicts=True,
    )


def forget_old_days(now: datetime.datetime) -> None:
    """Delete what is older than anyone is shown. Only for a clock that can be relied on."""
    before = timezone.localdate(now) - datetime.timedelta(days=DAYS_KEPT)
    StatusDay.objects.filter(day__lt=before).delete()


def read_history(now: datetime.datetime, days: int = DAYS_SHOWN) -> list[Day]:
    """Return the latest days, oldest first; two queries."""
    today = timezone.localdate(now)
    first = today - datetime.timedelta(days=days - 1)
    shown = StatusDay.objects.filter(day__range=(first, today)).order_by()
    counts: dict[datetime.date, dict[ReadinessState, int]] = {}
    for day, state, count in shown.values_list("day", "state").annotate(count=Count("pk")):
        counts.setdefault(day, {})[ReadinessState(state)] = count
    losses = dict(shown.values_list("day").annotate(most=Max("loss_seconds")))
    dates = [first + datetime.timedelta(days=number) for number in range(days)]
    return [Day(date, counts.get(date, {}), losses.get(date)) for date in dates]


def _make_worse(known: StatusDay, row: MachineStatus) -> bool:
    """Make a day's record worse, if the machine is; return whether it changed."""
    before = (known.state, known.loss_seconds)
    known.state = max(ReadinessState(known.state), row.readiness.state, key=_WORST_LAST.index)
    losses = [one for one in (known.loss_seconds, _loss_of(row)) if one is not None]
    known.loss_seconds = max(losses, default=None)
    return before != (known.state, known.loss_seconds)


def _loss_of(row: MachineStatus) -> int | None:
    return None if row.loss.seconds is None else round(row.loss.seconds)
