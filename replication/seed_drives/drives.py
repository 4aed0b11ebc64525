"""Seed drives: points that go to a target core on a disk because the link is too slow.

A seed drive is an archive of all of a machine's points. While it is outstanding, replication of the
machine waits. The target core's answers show when it has been consumed there.
"""

import logging
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from console.jobs.workflow import StepFailed
from protected_machines.archives.steps import points_to_archive
from replication.choices import SeedDriveState
from replication.errors import PeerFaulty, ReplicationError
from replication.models import Pairing, SeedDrive
from replication.peers.client import PeerClient
from replication.peers.wire import SentMachine
from replication.transfer.sending import get_replicated

logger = logging.getLogger(__name__)


def hold_back(job_id: UUID, replicated_machine_id: UUID, folder: str, requested_by: str) -> None:
    """Stop sending the machine's points over the link.

    Idempotent: the seed drive has the job's ID.
    Fails with REPLICATION-SEED-DRIVE-OUTSTANDING, REPLICATION-MACHINE-MISSING.
    """
    replicated = get_replicated(replicated_machine_id)
    try:
        with transaction.atomic():
            SeedDrive.objects.get_or_create(
                pk=job_id,
                defaults={
                    "replicated": replicated,
                    "folder": folder,
                    "requested_by": requested_by[:150],
                },
            )
    except IntegrityError as error:
        raise StepFailed(
            "REPLICATION-SEED-DRIVE-OUTSTANDING",
            f"{replicated.machine.name} already has an outstanding seed drive. Consume it "
            f"at {replicated.pairing.peer_name}, or abandon it.",
        ) from error


def undo_hold_back(job_id: UUID) -> None:
    """Allow sending over the link again."""
    SeedDrive.objects.filter(pk=job_id).delete()


def note_contents(job_id: UUID, machine_id: UUID, copied: dict[str, Any]) -> None:
    """Record what is on the drive, to be compared with the target core's answers later.

    Fails with STORE-POINT-MISSING.
    """
    last_id = copied["newest_point_id"]
    points = points_to_archive(machine_id, None)
    # Points taken while it was being copied are not on it.
    last = next(at for at, point in enumerate(points) if point.point_id == last_id)
    points = points[: last + 1]
    SeedDrive.objects.filter(pk=job_id).update(
        newest_point_id=last_id,
        newest_at=points[-1].taken_at,
        oldest_at=points[0].taken_at,
        points=len(points),
        stored_bytes=sum(point.stored_bytes for point in points),
    )


def note_consumed(pairing: Pairing, client: PeerClient) -> int:
    """Ask the target core which outstanding seed drives were consumed; return how many were."""
    drives = (
        SeedDrive.objects.outstanding()
        .filter(replicated__pairing=pairing, newest_point_id__isnull=False)
        .select_related("replicated__machine", "replicated__pairing")
    )
    return sum(_note_consumed(drive, client) for drive in drives)


def _note_consumed(drive: SeedDrive, client: PeerClient) -> bool:
    replicated, point_id, newest_at = drive.replicated, drive.newest_point_id, drive.newest_at
    machine_id = replicated.machine_id
    if point_id is None or newest_at is None:
        return False
    try:
        try:
            missing = client.missing_points(machine_id, [point_id])
        except PeerFaulty:
            # The drive may have arrived before the machine was introduced.
            client.put_machine(machine_id, SentMachine.of(replicated))
            missing = client.missing_points(machine_id, [point_id])
    except ReplicationError as error:
        logger.info("seed drive not asked for id=%s error=%s", drive.pk, error)
        return False
    now = timezone.now()
    if missing or not drive.end(SeedDriveState.CONSUMED, now):
        return False
    replicated.note_synced(str(point_id), newest_at, now)
    logger.info("seed drive consumed id=%s machine_id=%s", drive.pk, machine_id)
    return True
