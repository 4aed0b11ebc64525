"""Prove recovery points by reading them, and record the result in the index.

Every grain of a point is inflated once and compared with its digest; only then is the point proven.
Afterwards its files need only be compared with their digests, since those are then known to be
those of files that can be restored.

A whole chain is read before it is used, and at least once a week. In between, the background task
reads only a new point's own files if everything it builds on was proven recently: a machine's chain
may be terabytes, its newest incremental megabytes.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from console.jobs.report import SILENCE, Report, at_each_slice
from protected_machines.choices import PointState
from protected_machines.errors import PointNotFound
from protected_machines.models import RecoveryPoint
from protected_machines.own_store import check_own_store
from protected_machines.points.store import open_store
from recovery_store.errors import ChainBroken, ChainDamaged
from recovery_store.manifest import Manifest
from recovery_store.proof import NeedsContent, prove_files

# How long a chain that was proven need not be read again in the background.
CHAIN_PROOF_HOLDS = timedelta(days=7)


@dataclass(frozen=True)
class ChainProof:
    """What was read: how many points, and whether that was the whole chain."""

    points: int
    is_whole_chain: bool


def prove_whole_chain(
    machine_id: UUID | str, point_id: UUID | str, on_slice: Callable[[int, int], None] | None = None
) -> ChainProof:
    """Read the point and all that it builds on, and save the result.

    Raises:
        PointMissing: the store holds no such point.
        ChainBroken, ChainDamaged: a file is missing or damaged; names the points still good.
    """
    known_ids = _ids_of(machine_id)
    try:
        proof = open_store().prove(
            str(machine_id), str(point_id), on_slice, _needs_content(machine_id)
        )
    except (ChainBroken, ChainDamaged) as error:
        record_damage(machine_id, point_id, error, known_ids)
        raise
    _record_proof(proof.manifests)
    return ChainProof(len(proof.manifests), is_whole_chain=True)


def prove_lately(
    machine_id: UUID | str, point_id: UUID | str, on_slice: Callable[[int, int], None] | None = None
) -> ChainProof:
    """Read the point's own files, and the rest of its chain if it was not proven recently.

    Raises the same errors as `prove_whole_chain`.
    """
    known_ids = _ids_of(machine_id)
    store = open_store()
    try:
        chain = store.chain(str(machine_id), str(point_id))
    except ChainBroken as error:
        record_damage(machine_id, point_id, error, known_ids)
        raise
    ancestors = [manifest.point_id for manifest in chain[:-1]]
    proven_lately = RecoveryPoint.objects.filter(
        pk__in=ancestors,
        state=PointState.PROVEN,
        proven_at__range=(timezone.now() - CHAIN_PROOF_HOLDS, timezone.now()),
    ).count()
    if not ancestors or proven_lately < len(ancestors):
        return prove_whole_chain(machine_id, point_id, on_slice)
    folder = store.get_folder(str(machine_id), str(point_id))
    if prove_files([(folder, chain[-1])], on_slice, _needs_content(machine_id)):
        # Read everything to find out what is still good.
        return prove_whole_chain(machine_id, point_id, on_slice)
    RecoveryPoint.objects.get(pk=point_id).mark_proven()
    return ChainProof(1, is_whole_chain=False)


def _ids_of(machine_id: UUID | str) -> set[UUID]:
    return set(RecoveryPoint.objects.filter(machine_id=machine_id).values_list("pk", flat=True))


def _needs_content(machine_id: UUID | str) -> NeedsContent:
    """Return which points of a machine have never been inflated."""
    inflated = RecoveryPoint.objects.usable().filter(machine_id=machine_id, proven_at__isnull=False)
    known = {str(point_id) for point_id in inflated.values_list("pk", flat=True)}
    return lambda point_id: point_id not in known


def _record_proof(manifests: tuple[Manifest, ...]) -> None:
    RecoveryPoint.objects.filter(pk__in=[manifest.point_id for manifest in manifests]).update(
        state=PointState.PROVEN, proven_at=timezone.now(), damage_text=""
    )


@transaction.atomic
def record_damage(
    machine_id: UUID | str,
    point_id: UUID | str,
    error: ChainBroken | ChainDamaged,
    known_ids: Set[UUID],
) -> None:
    """Mark the point damaged, and all others of the machine that the proof did not find good.

    known_ids: the machine's points when the proof began. Those added since were not read, so they
        are left alone.
    """
    good = set(error.good_point_ids)
    for point in RecoveryPoint.objects.filter(machine_id=machine_id):
        if point.pk not in known_ids:
            continue
        if str(point.pk) == str(point_id):
            point.mark_damaged(str(error))
        elif str(point.pk) not in good and point.state != PointState.DAMAGED:
            point.mark_damaged(f"It builds on a damaged point: {error}")


def get_manifest(machine_id: UUID | str, point_id: UUID | str) -> Manifest:
    """Return the manifest of a point of a machine.

    Raises:
        PointNotFound: the store does not hold it.
        StoreMissing: the folder is not this core's store; says where it is expected.
    """
    check_own_store()
    manifest = open_store().find_point(str(machine_id), str(point_id))
    if manifest is None:
        raise PointNotFound(
            f"Recovery point {point_id} of machine {machine_id} is not in this core's store. "
            "Choose another."
        )
    return manifest


def prove_chain(
    machine_id: UUID | str, point_id: UUID | str, report: Report = SILENCE
) -> dict[str, Any]:
    """Prove the point and everything it builds on, by the store's own digests.

    Fails with STORE-… naming what is damaged or missing, and the points that are still good.
    """
    manifest = get_manifest(machine_id, point_id)
    proof = prove_whole_chain(machine_id, point_id, at_each_slice(report))
    return {"manifest_digest": manifest.digest, "points": proof.points}
