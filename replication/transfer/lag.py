"""How far a receiver is behind, counted once and kept on the row that pages read."""

import uuid
from collections.abc import Iterable

from django.db.models import Count, F, Max, Q, Sum
from django.db.models.functions import Coalesce

from protected_machines.models import RecoveryPoint
from replication.models import ReplicatedMachine

_COUNTED_FIELDS = ["newest_point_at", "behind_points", "behind_bytes"]


def refresh_lag(replicated: Iterable[ReplicatedMachine]) -> None:
    """Count on the sending side which points the receiver lacks; writes only what changed."""
    rows = {row.pk: row for row in replicated}
    counted = (
        ReplicatedMachine.objects.filter(pk__in=rows)
        .annotate(
            counted_newest_at=Max("machine__points__taken_at"),
            counted_points=Count("machine__points", filter=_IS_NEWER),
            counted_bytes=Coalesce(Sum("machine__points__stored_bytes", filter=_IS_NEWER), 0),
        )
        .values_list("pk", "counted_newest_at", "counted_points", "counted_bytes")
    )
    changed = []
    for key, newest_at, points, waiting_bytes in counted:
        row = rows[key]
        if (row.newest_point_at, row.behind_points, row.behind_bytes) == (
            newest_at,
            points,
            waiting_bytes,
        ):
            continue
        row.newest_point_at, row.behind_points, row.behind_bytes = newest_at, points, waiting_bytes
        changed.append(row)
    ReplicatedMachine.objects.bulk_update(changed, _COUNTED_FIELDS, batch_size=500)


def note_local_point(machine_id: uuid.UUID, point: RecoveryPoint) -> None:
    """Keep the newest point of a machine that was failed over to this core on its row."""
    ReplicatedMachine.objects.incoming().filter(machine_id=machine_id).filter(
        Q(last_point_at=None) | Q(last_point_at__lt=point.taken_at)
    ).update(
        last_point_id=point.pk,
        last_point_at=point.taken_at,
        newest_point_at=point.taken_at,
        behind_points=0,
        behind_bytes=0,
    )


_IS_NEWER = Q(machine__points__is_carried_on=True) & (
    Q(last_point_at=None) | Q(machine__points__taken_at__gt=F("last_point_at"))
)
