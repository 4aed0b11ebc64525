"""How much of this core's store a source core may fill: its quota, and how near it is.

Counted are the points of all its machines that are here, and those that are arriving, by what their
manifests announce: otherwise a source could begin any number of points.
"""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Sum

from console.wording import bytes_human
from protected_machines.models import RecoveryPoint
from protected_machines.points.store import open_store
from recovery_store.manifest import Manifest
from replication.errors import QuotaReached
from replication.models import Pairing

# The pages warn once this much of a quota is used.
WARN_PERCENT = 80


@dataclass(frozen=True)
class QuotaUse:
    """A source core's quota, and what its machines use of it."""

    used_bytes: int
    quota_bytes: int

    @property
    def is_reached(self) -> bool:
        return self.used_bytes >= self.quota_bytes

    @property
    def is_warned_of(self) -> bool:
        return self.used_bytes * 100 >= self.quota_bytes * WARN_PERCENT

    @property
    def text(self) -> str:
        return f"{bytes_human(self.used_bytes)} of {bytes_human(self.quota_bytes)}"


def find_quota_use(pairing: Pairing, arriving_point_id: str = "") -> QuotaUse | None:
    """Return the use of a source core's quota; none if it has no quota.

    arriving_point_id: a point that is not counted, because the question is whether it fits.
    """
    if pairing.is_outgoing or pairing.quota_bytes is None:
        return None
    machine_ids: list[UUID] = list(pairing.machines.values_list("machine_id", flat=True))
    points = RecoveryPoint.objects.filter(machine__replications__pairing=pairing)
    stored_bytes = points.aggregate(total=Sum("stored_bytes"))["total"] or 0
    store = open_store()
    arriving_bytes = sum(
        store.announced_bytes(str(machine_id), arriving_point_id) for machine_id in machine_ids
    )
    return QuotaUse(stored_bytes + arriving_bytes, pairing.quota_bytes)


def check_quota(pairing: Pairing, manifest: Manifest) -> None:
    """Check that a point fits into the quota of the source core that sends it.

    Raises:
        QuotaReached: it does not, and is not here yet.
    """
    use = find_quota_use(pairing, manifest.point_id)
    if use is None or use.used_bytes + manifest.stored_bytes <= use.quota_bytes:
        return
    if RecoveryPoint.objects.filter(pk=manifest.point_id).exists():
        return
    raise QuotaReached(
        f"{pairing.peer_name} has used {use.text} of its quota here, and a recovery point of "
        f"{manifest.machine_name} needs {bytes_human(manifest.stored_bytes)}. Raise the quota in "
        "the settings of the source core on its target core, or delete recovery points there."
    )
