"""How far a receiver is behind, counted once and kept on the row that pages read.

The sender counts; the receiver keeps that count, less what has arrived since. Nothing else writes
these columns.
"""

import datetime
import uuid
from collections.abc import Iterable, Mapping

from django.db.models import Count, F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Greatest

from protected_machines.models import RecoveryPoint
from protected_machines.models.points import position_of
from replication.models import Pairing, ReplicatedMachine
from replication.peers.wire import Behind

_COUNTED_FIELDS = ["newest_point_at", "behind_points", "behind_bytes"]


def refresh_lag(replicated: Iterable[ReplicatedMachine]) -> None:
    """On the sending side, count the points that the receiver lacks; writes only changes."""
    rows = {row.pk: row for row in replicated}
    points = RecoveryPoint.objects.filter(machine=OuterRef("machine_id"))
    # Reads only the waiting points of each machine, not all of them.
    waiting = points.carried_on().filter(position__gt=OuterRef("last_position")).order_by()
    totals = waiting.values("machine_id").annotate(count=Count("pk"), size=Sum("stored_bytes"))
    counted = (
        ReplicatedMachine.objects.filter(pk__in=rows)
        .annotate(
            last_position=position_of(
                OuterRef("machine_id"), OuterRef("last_point_id"), OuterRef("last_point_at")
            )
        )
        .annotate(
            counted_newest_at=Subquery(points.newest_first().values("taken_at")[:1]),
            counted_points=Coalesce(Subquery(totals.values("count")), 0),
            counted_bytes=Coalesce(Subquery(totals.values("size")), 0),
        )
        .values_list("pk", "counted_newest_at", "counted_points", "counted_bytes")
    )
    _save(
        rows[key]
        for key, newest_at, points, waiting_bytes in counted
        if _set(rows[key], newest_at, points, waiting_bytes)
    )


def record_behind(replicated: ReplicatedMachine, told: Behind) -> None:
    """On the receiving side, keep the sender's count for one machine."""
    if _set_told(replicated, told):
        replicated.save(update_fields=_COUNTED_FIELDS)


def record_all_behind(pairing: Pairing, told: Mapping[uuid.UUID, Behind | None]) -> None:
    """Keep the sender's counts for all its machines; one that it does not name lacks nothing.

    None stands for an entry that could not be read: that machine stays as it is.
    """
    nothing = Behind()
    _save(
        row
        for row in pairing.machines.all()
        if (behind := told.get(row.machine_id, nothing)) is not None and _set_told(row, behind)
    )


def note_arrived(replicated: ReplicatedMachine, stored_bytes: int) -> None:
    """On the receiving side, count one point less."""
    ReplicatedMachine.objects.filter(pk=replicated.pk, behind_points__gt=0).update(
        behind_points=F("behind_points") - 1,
        behind_bytes=Greatest(F("behind_bytes") - stored_bytes, 0),
    )


def note_local_point(machine_id: uuid.UUID, point: RecoveryPoint) -> None:
    """Record the newest point of a machine that failed over to this core."""
    ReplicatedMachine.objects.incoming().filter(machine_id=machine_id).annotate(
        last_position=position_of(machine_id, OuterRef("last_point_id"), OuterRef("last_point_at"))
    ).filter(Q(last_point_at=None) | Q(last_position__lt=point.position)).update(
        last_point_id=point.pk,
        last_point_at=point.taken_at,
        newest_point_at=point.taken_at,
        behind_points=0,
        behind_bytes=0,
    )


def _set_told(row: ReplicatedMachine, told: Behind) -> bool:
    return _set(row, told.newest_point_at or row.newest_point_at, told.points, told.bytes)


def _set(
    row: ReplicatedMachine, newest_at: datetime.datetime | None, points: int, waiting_bytes: int
) -> bool:
    before = (row.newest_point_at, row.behind_points, row.behind_bytes)
    row.newest_point_at, row.behind_points, row.behind_bytes = newest_at, points, waiting_bytes
    return before != (newest_at, points, waiting_bytes)


def _save(changed: Iterable[ReplicatedMachine]) -> None:
    ReplicatedMachine.objects.bulk_update(changed, _COUNTED_FIELDS, batch_size=500)
