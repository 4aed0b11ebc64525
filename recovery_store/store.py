"""The store: recovery points of many machines, on one file system.

This is the door for everyone else; no other package opens the store's files. Reading needs no
lock, since files never change once a point exists. Several processes may use a store at once.
"""

import json
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

from blake3 import blake3

from .checking import check, clean
from .errors import (
    ChainBroken,
    ChainDamaged,
    ChainFault,
    ManifestDamaged,
    ParentUnfit,
    PointExists,
    PointInUse,
    PointMissing,
    ReplicaRefused,
    VmdkDamaged,
)
from .folders import (
    Space,
    ensure_folder,
    full_store_named,
    held_parents,
    machine_lock,
    remove_folder,
    sync_folder,
)
from .grain_table import GrainTable, TableOwner, TableUnfit, rebuild_table, table_file_name
from .inventory import Inventory, points_since, refusal
from .manifest import DiskEntry, Manifest, check_id
from .point_writer import PointPlace, PointWriter, new_draft
from .proof import Fault, Progress, Proof, Report, prove_files
from .replica import Replica
from .vmdk.descriptor import NO_PARENT
from .vmdk.disk import MergedDisk
from .vmdk.merge import ExportPlan
from .vmdk.reader import FilePool, StreamFile
from .vmdk.restore import RestorePlan

log = logging.getLogger(__name__)

# A point that holds a part of a disk, and the disk's entry in it.
_DiskPlace = tuple[Manifest, DiskEntry]


class Store(Inventory):
    """All recovery points below one folder.

    root: made at the first write.
    reserve_bytes: what stays free on the file system; none means 256 MiB, or 2 % of a small one.
    """

    def __init__(self, root: Path, reserve_bytes: int | None = None) -> None:
        super().__init__(root)
        self._space = Space(self.root, reserve_bytes)
        self._rebuilding = threading.Lock()

    # Write

    def begin_point(
        self,
        machine_id: str,
        machine_name: str,
        point_id: str,
        parent_point_id: str | None = None,
        *,
        taken_at: datetime,
    ) -> PointWriter:
        """Begin a new point; the writer is a context manager and takes the disks.

        Rebuilds the parent's digest tables first where they are missing, which reads the chain.

        Raises:
            PointExists: a point of that id is in the store.
            ParentUnfit: the parent is not in the store.
            ChainBroken: the parent lacks an ancestor, so a child of it would be worth nothing.
            StoreBusy: another process writes that point now.
            StoreFull: not even the reserve is free.
        """
        check_id(machine_id)
        check_id(point_id)
        if taken_at.tzinfo is None:
            raise ValueError("taken_at has no time zone")
        parent = None
        if parent_point_id is not None:
            try:
                parent = self.chain(machine_id, parent_point_id)[-1]
            except PointMissing as error:
                raise ParentUnfit(
                    f"The parent {parent_point_id} of a new recovery point of {machine_name} is"
                    " not in the store; take a base image instead"
                ) from error
            for disk in parent.disks:
                self._open_table(parent, disk).close()
        place = self._place(machine_id, parent_point_id)
        draft = new_draft(machine_id, machine_name, point_id, parent, taken_at)
        with full_store_named(self.root, "beginning a recovery point"):
            return PointWriter(place, draft, parent)

    def begin_replica(self, machine_id: str, manifest_bytes: bytes) -> Replica:
        """Begin, or go on with, taking over a point from another core.

        Raises:
            ManifestDamaged: the manifest is not sound.
            ReplicaRefused: it is another machine's.
            ParentUnfit: its parent is not here, or not the one it names.
            PointExists: another point of that id is here.
            StoreFull: it would not fit.
        """
        manifest = Manifest.from_bytes(manifest_bytes)
        if manifest.machine_id != machine_id:
            raise ReplicaRefused(
                f"Recovery point {manifest.point_id} is of machine {manifest.machine_id},"
                f" not {machine_id}"
            )
        self._check_parent_of_replica(manifest)
        here = self.find_point(machine_id, manifest.point_id)
        if here is not None and here.digest != manifest.digest:
            raise PointExists(
                f"Recovery point {manifest.point_id} is here already, with other content"
            )
        place = self._place(machine_id, manifest.parent_point_id)
        replica = Replica(place, manifest, here is not None)
        with full_store_named(self.root, "beginning a replica"):
            replica.begin()
        return replica

    def get_replica(self, machine_id: str, point_id: str) -> Replica:
        """Return a point that has begun to arrive, or has arrived, to go on with it.

        Raises:
            PointMissing: it has not begun.
            ManifestDamaged: what was kept of it is not sound; begin it again.
        """
        manifest = self.find_arriving(machine_id, point_id)
        is_complete = manifest is None
        if manifest is None:
            manifest = self.get_point(machine_id, point_id)
        return Replica(self._place(machine_id, manifest.parent_point_id), manifest, is_complete)

    def check_space(self, needed_bytes: int, doing: str) -> None:
        """Refuse what would not fit beside the reserve.

        Raises:
            StoreFull: too few bytes are free.
        """
        self._space.check(needed_bytes, doing)

    def delete_point(self, machine_id: str, point_id: str) -> None:
        """Remove a point that no other needs.

        Raises:
            PointMissing: the store holds no such point.
            PointInUse: another point, or one being written, is its child.
        """
        folder = self.get_folder(machine_id, point_id)
        place = self._place(machine_id, None)
        ensure_folder(place.unfinished)
        gone = place.unfinished / f"gone-{point_id}"
        with machine_lock(place.machine_folder):
            self._check_no_child(machine_id, point_id, place.unfinished)
            remove_folder(gone)
            folder.rename(gone)
            sync_folder(place.points)
        remove_folder(gone)
        log.info("point deleted machine=%s point=%s", machine_id, point_id)

    # Check

    def prove(self, machine_id: str, point_id: str, progress: Progress | None = None) -> Proof:
        """Prove a point: read every file of its chain and compare it with its digests.

        progress(done_bytes, total_bytes): what it raises ends the proof.

        Raises:
            PointMissing, ChainBroken: as `chain`.
            ChainDamaged: files are damaged; has the findings, and the points that stay good,
                which were proven too.
        """
        try:
            chain = self.chain(machine_id, point_id)
            folders = self.folders(machine_id)
            points = [(folders[point.point_id], point) for point in chain]
        except KeyError as error:
            raise PointMissing(f"Recovery point {error} has been deleted meanwhile") from error
        except ChainBroken as error:
            raise self._with_proven_points(error, machine_id, point_id, progress) from error
        findings = prove_files(points, progress)
        if findings:
            fault = ChainDamaged("", findings)
            raise self._with_proven_points(fault, machine_id, point_id, progress)
        return Proof(tuple(chain), sum(point.stored_bytes for point in chain))

    def check(self, progress: Progress | None = None, machine_id: str | None = None) -> Report:
        """Read everything, of all machines or of one, and report; changes nothing."""
        return check(self, progress, machine_id)

    def clean(self, report: Report) -> list[Path]:
        """Remove the leftovers that the report names, unless somebody writes there now."""
        return clean(report)

    # Use

    def plan_export(self, machine_id: str, point_id: str, disk_number: int) -> ExportPlan:
        """Plan one full VMDK of a disk; close the plan, or use it as a context manager.

        Does not prove the chain; that is `prove`, beforehand.

        Raises:
            PointMissing, DiskMissing, ChainBroken: there is no such disk to export.
            ChainDamaged: a file is not the stream that its manifest says.
            VmdkLimit: the result would pass 2 TiB.
        """
        links, pool = self._open_links(machine_id, point_id, disk_number)
        cid = _export_cid(point_id, disk_number)
        try:
            return ExportPlan(links, pool, cid, f"disk{disk_number}.vmdk")
        except VmdkDamaged as error:
            pool.close()
            raise _damaged(machine_id, point_id, error) from error
        except BaseException:
            pool.close()
            raise

    def export(
        self,
        machine_id: str,
        point_id: str,
        disk_number: int,
        path: Path,
        progress: Progress | None = None,
    ) -> None:
        """Prove a point and write a disk of it as one full VMDK; nothing is left on a failure.

        Proof and copy run side by side, and the file gets its name when both are done.

        Raises:
            ChainDamaged: as `prove`; besides what `plan_export` and `ExportPlan.write_to` raise.
        """
        try:
            plan = self.plan_export(machine_id, point_id, disk_number)
        except ChainFault as error:
            raise self._with_proven_points(error, machine_id, point_id, None) from error
        given_up = threading.Event()

        def go_on(*_: object) -> None:
            if given_up.is_set():
                raise CancelledError

        with plan, ThreadPoolExecutor(1, thread_name_prefix="export") as pool:
            proof = pool.submit(self.prove, machine_id, point_id, go_on)

            def tell(done_bytes: int, total_bytes: int) -> None:
                if proof.done():
                    proof.result()
                if progress is not None:
                    progress(done_bytes, total_bytes)

            try:
                plan.write_to(path, tell, proof.result)
            except VmdkDamaged:
                proof.result()  # says it better, and which points stay good
                raise
            finally:
                given_up.set()

    def plan_restore(
        self,
        machine_id: str,
        point_id: str,
        disk_number: int,
        since_point_id: str | None = None,
        *,
        is_blank: bool = True,
    ) -> RestorePlan:
        """Plan what to write to a real disk; close the plan, or use it as a context manager.

        Does not prove the chain; that is `prove`, beforehand.

        since_point_id: what the disk holds already, so that only what changed after it is due,
            with what became zero; none means a new disk, and only what holds data is due.
        is_blank: whether a new disk is known to be all zeros; if not, the runs cover all of it.

        Raises:
            PointMissing, DiskMissing, ChainBroken: there is no such disk to restore.
            PointUnrelated: the point was not made on the one that the disk holds.
            ChainDamaged: a file is not the stream that its manifest says.
        """
        chain = self.chain(machine_id, point_id)
        places = _disk_places(chain, disk_number)
        counting, held_bytes = _due_since(chain, places, since_point_id, is_blank)
        links, pool = self._open_places(places)
        try:
            return RestorePlan(links, pool, counting, held_bytes)
        except VmdkDamaged as error:
            pool.close()
            raise _damaged(machine_id, point_id, error) from error
        except BaseException:
            pool.close()
            raise

    def open_disk(self, machine_id: str, point_id: str, disk_number: int) -> MergedDisk:
        """Open the disk as a guest would see it; errors as in `plan_export`."""
        return MergedDisk(*self._open_links(machine_id, point_id, disk_number))

    # Inside

    def _with_proven_points(
        self, fault: ChainFault, machine_id: str, point_id: str, progress: Progress | None
    ) -> ChainFault:
        """Return the same fault, with the machine's points that a full check finds good."""
        good_point_ids = [point.point_id for point in self.check(progress, machine_id).good_points]
        text = refusal(point_id, fault.findings, good_point_ids)
        return type(fault)(text, fault.findings, good_point_ids)

    def _place(self, machine_id: str, parent_point_id: str | None) -> PointPlace:
        check_id(machine_id)
        machine_folder = self.root / "machines" / machine_id

        def load_parent() -> Manifest | None:
            if parent_point_id is None:
                return None
            try:
                return self.get_point(machine_id, parent_point_id)
            except (PointMissing, ManifestDamaged):
                return None

        return PointPlace(
            root=self.root,
            machine_folder=machine_folder,
            points=machine_folder / "points",
            unfinished=machine_folder / "unfinished",
            space=self._space,
            open_table=self._open_table,
            find_folder=lambda point_id: self.folders(machine_id).get(point_id),
            load_parent=load_parent,
        )

    def _open_links(
        self, machine_id: str, point_id: str, disk_number: int
    ) -> tuple[list[StreamFile], FilePool]:
        """Open the files of one disk's chain, the newest first."""
        places = _disk_places(self.chain(machine_id, point_id), disk_number)
        return self._open_places(places)

    def _open_places(self, places: Sequence[_DiskPlace]) -> tuple[list[StreamFile], FilePool]:
        newest = places[0][0]
        folders = self.folders(newest.machine_id)
        pool = FilePool()
        try:
            parents = [disk for _, disk in places[1:]]
            links = [
                _open_link(folders[point.point_id] / disk.file, pool, disk, parent)
                for (point, disk), parent in zip_longest(places, parents)
            ]
        except (VmdkDamaged, KeyError) as error:
            pool.close()
            raise _damaged(newest.machine_id, newest.point_id, error) from error
        except BaseException:
            pool.close()
            raise
        return links, pool

    def _open_table(self, manifest: Manifest, disk: DiskEntry) -> GrainTable:
        """Open the digest table of a disk; rebuild it where it cannot be believed."""
        folder = self.get_folder(manifest.machine_id, manifest.point_id)
        path = folder / table_file_name(disk.number)
        owner = TableOwner(manifest.point_id, disk.number, disk.digest)
        try:
            return _open_sound_table(path, owner, disk.capacity_bytes)
        except TableUnfit as error:
            log.info("table rebuilt point=%s disk=%d why=%s", owner.point_id, disk.number, error)
        with (
            self._rebuilding,
            full_store_named(self.root, f"rebuilding the digest table {path}"),
            self.open_disk(manifest.machine_id, manifest.point_id, disk.number) as merged,
        ):
            return rebuild_table(path, merged, owner)

    def _check_parent_of_replica(self, manifest: Manifest) -> None:
        if manifest.parent_point_id is None:
            return
        parent = self.find_point(manifest.machine_id, manifest.parent_point_id)
        if parent is None:
            raise ParentUnfit(
                f"Recovery point {manifest.point_id} needs its parent"
                f" {manifest.parent_point_id} here first"
            )
        if parent.digest != manifest.parent_digest:
            raise ParentUnfit(
                f"Recovery point {manifest.point_id} names another parent than the"
                f" {manifest.parent_point_id} that is here"
            )

    def _check_no_child(self, machine_id: str, point_id: str, unfinished: Path) -> None:
        children = [
            point.point_id for point in self.points(machine_id) if point.parent_point_id == point_id
        ]
        being_written = held_parents(unfinished).get(point_id)
        if being_written:
            children.append(f"{being_written} (being written)")
        if children:
            raise PointInUse(
                f"Recovery point {point_id} cannot be deleted: {', '.join(children)} needs it"
            )


def _disk_places(chain: Sequence[Manifest], disk_number: int) -> list[_DiskPlace]:
    """Return the points that hold a part of a disk, with its entry there, the newest first."""
    places: list[_DiskPlace] = []
    number: int | None = disk_number
    for point in reversed(chain):
        if number is None:
            break
        disk = point.disk(number)
        places.append((point, disk))
        number = disk.parent[1] if disk.parent else None
    return places


def _due_since(
    chain: Sequence[Manifest],
    places: Sequence[_DiskPlace],
    since_point_id: str | None,
    is_blank: bool,
) -> tuple[int, int]:
    """Return how many of a disk's places a restore needs, and how far the disk holds the rest."""
    _, disk = places[0]
    new = len(places), disk.capacity_bytes if is_blank else 0
    if since_point_id is None:
        return new
    newer = points_since(chain, since_point_id)
    if len(newer) < len(places):
        return len(newer), places[len(newer)][1].capacity_bytes
    since = chain[-1 - len(newer)]
    # A disk that came whole once more replaces what is there.
    return (len(places), 0) if since.find_disk_by_key(disk.key) else new


def _open_link(path: Path, pool: FilePool, disk: DiskEntry, parent: DiskEntry | None) -> StreamFile:
    file = StreamFile(path, pool)
    for name, expected, got in (
        ("length", disk.file_bytes, file.length_bytes),
        ("capacity", disk.capacity_bytes, file.capacity_bytes),
        ("content id", disk.cid, file.descriptor.cid),
        ("parent content id", parent.cid if parent else NO_PARENT, file.descriptor.parent_cid),
    ):
        if got != expected:
            raise VmdkDamaged(f"{path}: its {name} is {got}, the manifest says {expected}")
    return file


def _open_sound_table(path: Path, owner: TableOwner, capacity_bytes: int) -> GrainTable:
    table = GrainTable(path, owner, capacity_bytes)
    try:
        table.prove()
    except BaseException:
        table.close()
        raise
    return table


def _export_cid(point_id: str, disk_number: int) -> str:
    """Return the same content id for every export of a disk, so that exports are the same."""
    cid = blake3(json.dumps([point_id, disk_number]).encode()).hexdigest()[:8]
    return "00000001" if cid in ("ffffffff", "fffffffe", "00000000") else cid


def _damaged(machine_id: str, point_id: str, error: Exception) -> ChainDamaged:
    finding = Fault("damaged", machine_id, point_id, str(error))
    return ChainDamaged(refusal(point_id, [finding], None), [finding])
