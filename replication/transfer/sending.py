"""The sending side: send a target core the points that it lacks.

Points are immutable files. They are sent in slices that name their offset, so a lost connection
costs at most one slice; the receiver checks every digest before it keeps a point.
"""

import logging
import uuid
from typing import Any

from django.utils import timezone

from console.jobs.report import CancelOnly, Report
from console.jobs.workflow import StepFailed
from protected_machines.choices import PointState
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points.proofs import prove_chain
from protected_machines.points.store import open_store
from recovery_store.errors import StoreError
from recovery_store.manifest import Manifest
from replication.errors import DamagedHere, DamagedOnArrival, OffsetMismatch
from replication.models import ReplicatedMachine
from replication.peers.client import PeerClient
from replication.transfer.lag import refresh_lag

logger = logging.getLogger(__name__)

SLICE_BYTES = 8 * 1024 * 1024
_STRAY_OFFSETS_LIMIT = 20
_TRANSFERS_OF_A_POINT = 2


def get_replicated(replicated_machine_id: uuid.UUID) -> ReplicatedMachine:
    """Return the row of a machine on its pairing.

    Raises:
        StepFailed: it is no longer replicated to that core.
    """
    rows = ReplicatedMachine.objects.select_related("machine", "pairing")
    found = rows.filter(pk=replicated_machine_id).first()
    if found is None:
        raise StepFailed(
            "REPLICATION-MACHINE-MISSING",
            "This machine is no longer replicated to that core.",
            is_permanent=True,
        )
    return found


class Sending:
    """One run that sends the target the missing points of one machine."""

    def __init__(
        self,
        replicated: ReplicatedMachine,
        client: PeerClient,
        report: Report,
        slice_bytes: int = SLICE_BYTES,
        *,
        is_pausable: bool = True,
    ) -> None:
        # A failback ignores a pause: an administrator started it all the same.
        self._is_pausable = is_pausable
        self._slice_bytes = slice_bytes
        self._replicated = replicated
        self._machine: Machine = replicated.machine
        self._client = client
        self._report = report
        self._store = open_store()
        self._sent_bytes = 0
        self._total_bytes = 0

    def send_missing(self) -> dict[str, Any]:
        """Send every point that the target lacks, oldest first, with those taken in the meantime.

        Raises:
            PeerError, OwnedElsewhere: the target cannot or will not accept them.
            DamagedHere, DamagedOnArrival: a point cannot be sent intact.
        """
        sent_points = 0
        while True:
            if self._is_on_seed_drive():
                self._report.note(
                    "Its points are on a seed drive. Nothing is sent over the link until it is "
                    "consumed or abandoned."
                )
                return {"sent_points": sent_points, "sent_bytes": self._sent_bytes}
            sendable, damaged = self._sendable_points()
            lacking = set(self._client.missing_points(self._machine.pk, sendable))
            # In this core's order, whatever order the target names: parents before children.
            missing = [point_id for point_id in sendable if point_id in lacking]
            if not missing:
                break
            manifests = [
                self._store.get_point(str(self._machine.pk), str(point_id)) for point_id in missing
            ]
            self._total_bytes = self._sent_bytes + sum(map(_file_bytes, manifests))
            for number, manifest in enumerate(manifests, start=1):
                if self._is_on_seed_drive():
                    break
                if self._is_paused():
                    self._report.note("Paused. The rest will be sent later.")
                    return {"sent_points": sent_points, "sent_bytes": self._sent_bytes}
                self._report.note(
                    f"Point {number} of {len(manifests)}, taken {manifest.taken_at:%H:%M:%S}"
                )
                self._send_point(manifest)
                sent_points += 1
        self._conclude(sendable, damaged)
        return {"sent_points": sent_points, "sent_bytes": self._sent_bytes}

    def _sendable_points(self) -> tuple[list[uuid.UUID], list[uuid.UUID]]:
        """Return the IDs of the points to send, oldest first, and of those damaged here."""
        sendable: list[uuid.UUID] = []
        damaged: set[uuid.UUID] = set()
        points = RecoveryPoint.objects.carried_on().filter(machine=self._machine)
        points = points.oldest_first()
        for point_id, parent_id, state in points.values_list("pk", "parent_id", "state"):
            if state == PointState.DAMAGED or parent_id in damaged:
                damaged.add(point_id)
            else:
                sendable.append(point_id)
        return sendable, sorted(damaged)

    def _send_point(self, manifest: Manifest) -> None:
        for transfer in range(1, _TRANSFERS_OF_A_POINT + 1):
            sent_before_bytes = self._sent_bytes
            try:
                self._send_files(manifest)
                self._client.commit_replica(
                    self._machine.pk, manifest.point_id, _file_bytes(manifest)
                )
                break
            except DamagedOnArrival as error:
                self._check_for_damage_here(manifest)
                if transfer == _TRANSFERS_OF_A_POINT:
                    raise DamagedOnArrival(
                        f"{error.text}. It was sent {transfer} times and is intact here, "
                        "so the network or the target core's storage is corrupting it.",
                    ) from error
                logger.warning("sending again point_id=%s error=%s", manifest.point_id, error)
                self._report.note(f"{error.text}. Sending it again.")
                self._sent_bytes = sent_before_bytes
        now = timezone.now()
        self._replicated.note_synced(manifest.point_id, manifest.taken_at, now)
        refresh_lag([self._replicated])

    def _send_files(self, manifest: Manifest) -> None:
        machine_id = self._machine.pk
        held_bytes = self._client.begin_replica(machine_id, manifest.to_bytes())
        for disk in manifest.disks:
            offset_bytes = held_bytes.get(disk.file, 0)
            self._advance(offset_bytes)
            strays = 0
            while offset_bytes < disk.file_bytes:
                self._report.check_cancel()
                data = self._read(manifest, disk.file, offset_bytes, disk.file_bytes)
                before_bytes = offset_bytes
                try:
                    offset_bytes = self._client.put_slice(
                        machine_id, manifest.point_id, disk.file, offset_bytes, data
                    )
                except OffsetMismatch as error:
                    # A response was lost, or another process sends too: the receiver is right.
                    strays += 1
                    if strays > _STRAY_OFFSETS_LIMIT:
                        raise
                    offset_bytes = error.offset_bytes
                self._advance(offset_bytes - before_bytes)

    def _read(self, manifest: Manifest, name: str, offset_bytes: int, end_bytes: int) -> bytes:
        count_bytes = min(self._slice_bytes, end_bytes - offset_bytes)
        try:
            data = self._store.read_file(
                manifest.machine_id, manifest.point_id, name, offset_bytes, count_bytes
            )
        except StoreError:
            self._check_for_damage_here(manifest)
            raise
        if not data:
            self._check_for_damage_here(manifest)
            raise DamagedHere(
                f"{name} of point {manifest.point_id} ends at byte {offset_bytes} in this core's "
                f"store; its manifest says {end_bytes}."
            )
        return data

    def _check_for_damage_here(self, manifest: Manifest) -> None:
        """Prove the point in this core's own store, and mark it if it is damaged.

        Raises:
            DamagedHere: the text names what is damaged, and what is still good.
        """
        try:
            prove_chain(manifest.machine_id, manifest.point_id, CancelOnly(self._report))
        except StoreError as error:
            raise DamagedHere(
                f"Point {manifest.point_id} is damaged in this core's own store and "
                f"cannot be sent: {error}"
            ) from error

    def _conclude(self, sendable: list[uuid.UUID], damaged: list[uuid.UUID]) -> None:
        if damaged:
            raise DamagedHere(
                f"{len(damaged)} points cannot be sent because they, or points they build "
                f"on, are damaged in this core's store ({damaged[0]} and others). Take a "
                "new base image."
                if len(damaged) > 1
                else f"Point {damaged[0]} cannot be sent because it is damaged in this core's "
                "store. Take a new base image."
            )
        now = timezone.now()
        if sendable:
            # Points may have been carried there on a disk, so that none had to be sent.
            newest = RecoveryPoint.objects.get(pk=sendable[-1])
            self._replicated.note_synced(str(newest.pk), newest.taken_at, now)
        self._replicated.note_up_to_date(now)
        refresh_lag([self._replicated])

    def _advance(self, count_bytes: int) -> None:
        self._sent_bytes += count_bytes
        self._report.progress(self._sent_bytes, max(self._total_bytes, self._sent_bytes))

    def _is_on_seed_drive(self) -> bool:
        return self._is_pausable and self._replicated.seed_drives.outstanding().exists()

    def _is_paused(self) -> bool:
        if not self._is_pausable:
            return False
        row = ReplicatedMachine.objects.select_related("pairing").get(pk=self._replicated.pk)
        return row.is_paused or row.pairing.is_paused


def _file_bytes(manifest: Manifest) -> int:
    return sum(disk.file_bytes for disk in manifest.disks)
