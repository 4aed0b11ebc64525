"""The store: recovery points of many machines on one file system.

All other packages use the store's files only through this module. Several processes may use a store
at once; reading needs no lock, since the files of a point never change.
"""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

from blake3 import blake3

from .checking import check, clean, expire, unfinished
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
    replica_name,
    sync_folder,
)
from .grain_table import GrainTable, TableOwner, TableUnfit, rebuild_table, table_file_name
from .inventory import Inventory, points_since, refusal
from .manifest import DiskEntry, Manifest, check_id
from .point_writer import PointWriter, StoreAccess, new_draft
from .proof import (
    Fault,
    NeedsContent,
    Progress,
    Proof,
    Report,
    every_point,
    no_point,
    prove_files,
)
from .replica import Replica
from .vmdk.descriptor import NO_PARENT
from .vmdk.disk import MergedDisk
from .vmdk.layout import SECTOR_BYTES
from .vmdk.merge import ExportPlan
from .vmdk.reader import FilePool, StreamFile
from .vmdk.restore import RestorePlan

log = logging.getLogger(__name__)

# A point that holds part of a disk, and the disk's entry in it.
_DiskLayer = tuple[Manifest, DiskEntry]


class Store(Inventory):
    """All recovery points below one folder.

    root: created by the first write.
    reserve_bytes: what stays free on the file system; none means 256 MiB, or 2 % of a small one.
    check_identity: called before anything is written; raises if this is not the expected store.
        None accepts any folder, as a shell does.
    """

    def __init__(
        self,
        root: Path,
        reserve_bytes: int | None = None,
        check_identity: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(root)
        self.check_identity = check_identity or _accept_any_folder
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

        Rebuilds missing digest tables of the parent first, which reads its chain.

        Raises:
            PointExists: a point with that id is in the store.
            ParentUnfit: the parent is not in the store.
            ChainBroken: an ancestor of the parent is missing, so the new point would be worthless.
            StoreBusy: another process is writing that point.
            StoreFull: not even the reserve is free.
        """
        check_id(machine_id)
        check_id(point_id)
        self.check_identity()
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
        access = self._access(machine_id, parent_point_id)
        draft = new_draft(machine_id, machine_name, point_id, parent, taken_at)
        with full_store_named(self.root, "beginning a recovery point"):
            return PointWriter(access, draft, parent)

    def begin_replica(self, machine_id: str, manifest_bytes: bytes) -> Replica:
        """Begin to receive a point from another core, or resume it.

        Raises:
            ManifestDamaged: the manifest is damaged.
            ReplicaRefused: the manifest belongs to another machine.
            ParentUnfit: its parent is not here, or is a different one.
            PointExists: a different point with that id is here.
            StoreFull: it does not fit.
        """
        self.check_identity()
        manifest = Manifest.from_bytes(manifest_bytes)
        if manifest.machine_id != machine_id:
            raise ReplicaRefused(
                f"Recovery point {manifest.point_id} belongs to machine {manifest.machine_id},"
                f" not {machine_id}"
            )
        self._check_parent_of_replica(manifest)
        here = self.find_point(machine_id, manifest.point_id)
        if here is not None and here.digest != manifest.digest:
            raise PointExists(
                f"Recovery point {manifest.point_id} is already here, with different content"
            )
        access = self._access(machine_id, manifest.parent_point_id)
        replica = Replica(access, manifest, here is not None)
        with full_store_named(self.root, "beginning a replica"):
            replica.begin()
        return replica

    def get_replica(self, machine_id: str, point_id: str) -> Replica:
        """Return a point that is arriving or has arrived, to resume it.

        Raises:
            PointMissing: it has not begun to arrive.
            ManifestDamaged: its manifest is damaged here; begin it again.
        """
        self.check_identity()
        manifest = self.find_arriving(machine_id, point_id)
        is_complete = manifest is None
        if manifest is None:
            manifest = self.get_point(machine_id, point_id)
        return Replica(self._access(machine_id, manifest.parent_point_id), manifest, is_complete)

    def check_space(self, needed_bytes: int, doing: str) -> None:
        """Check that this much fits, apart from the reserve.

        Raises:
            StoreFull: too little space is free.
        """
        self._space.check(needed_bytes, doing)

    def delete_point(self, machine_id: str, point_id: str) -> None:
        """Remove a point that no other point needs.

        Raises:
            PointMissing: the store has no such point.
            PointInUse: it has a child, which may still be being written.
        """
        self.check_identity()
        folder = self.get_folder(machine_id, point_id)
        access = self._access(machine_id, None)
        ensure_folder(access.unfinished)
        gone = access.unfinished / f"gone-{point_id}"
        with machine_lock(access.machine_folder):
            self._check_no_child(machine_id, point_id, access.unfinished)
            remove_folder(gone)
            folder.rename(gone)
            sync_folder(access.points)
        remove_folder(gone)
        log.info("point deleted machine=%s point=%s", machine_id, point_id)

    # Check

    def prove(
        self,
        machine_id: str,
        point_id: str,
        progress: Progress | None = None,
        needs_content: NeedsContent = every_point,
    ) -> Proof:
        """Verify a point: read every file of its chain and compare it with its digests.

        progress(done_bytes, total_bytes): may raise to stop.
        needs_content: of which points to inflate each grain too, and compare it with its digest.

        Raises:
            PointMissing, ChainBroken: see `chain`.
            ChainDamaged: files are damaged; has the findings, and the points that are still good,
                which were verified too.
        """
        try:
            chain = self.chain(machine_id, point_id)
            folders = self.folders(machine_id)
            points = [(folders[point.point_id], point) for point in chain]
        except KeyError as error:
            raise PointMissing(f"Recovery point {error} was deleted in the meantime") from error
        except ChainBroken as error:
            raise self._with_proven_points(
                error, machine_id, point_id, progress, needs_content
            ) from error
        findings = prove_files(points, progress, needs_content)
        if findings:
            fault = ChainDamaged("", findings)
            raise self._with_proven_points(fault, machine_id, point_id, progress, needs_content)
        return Proof(tuple(chain), sum(point.stored_bytes for point in chain))

    def check(
        self,
        progress: Progress | None = None,
        machine_id: str | None = None,
        needs_content: NeedsContent = every_point,
    ) -> Report:
        """Read every point of all machines or of one, and report; changes nothing."""
        return check(self, progress, machine_id, needs_content)

    def clean(self, report: Report) -> list[Path]:
        """Remove the leftovers named in the report, except those now being written."""
        return clean(report)

    def announced_bytes(self, machine_id: str, except_point_id: str = "") -> int:
        """Return what the points of a machine that are arriving will take, but for one."""
        return sum(
            each.announced_bytes
            for each in unfinished(self, machine_id)
            if each.path.name != replica_name(except_point_id)
        )

    def expire(self, machine_id: str, before: datetime) -> list[Path]:
        """Remove points of a machine that are half here and grew no more since then."""
        self.check_identity()
        return expire(self, machine_id, before)

    # Use

    def plan_export(
        self, machine_id: str, point_id: str, disk_number: int, step_bytes: int = SECTOR_BYTES
    ) -> ExportPlan:
        """Plan one full VMDK of a disk; close the plan, or use it as a context manager.

        Does not verify the chain; call `prove` first. With `step_bytes`, the disk is enlarged to a
        multiple of that.

        Raises:
            PointMissing, DiskMissing, ChainBroken: there is no such disk to export.
            ChainDamaged: a file is not the stream that its manifest says.
            VmdkLimit: the result would exceed 2 TiB.
        """
        links, pool = self._open_links(machine_id, point_id, disk_number)
        cid = _export_cid(point_id, disk_number)
        try:
            return ExportPlan(links, pool, cid, f"disk{disk_number}.vmdk", step_bytes)
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
        """Verify a point and write one of its disks as a full VMDK; a failure leaves nothing.

        Verifying and copying run in parallel; the file gets its name when both are done. Grains are
        copied as they are: call `prove` first if they have not been inflated yet.

        Raises:
            ChainDamaged: see `prove`; also whatever `plan_export` and `ExportPlan.write_to` raise.
        """
        try:
            plan = self.plan_export(machine_id, point_id, disk_number)
        except ChainFault as error:
            raise self._with_proven_points(error, machine_id, point_id, None, no_point) from error
        given_up = threading.Event()

        def stop_if_given_up(*_: object) -> None:
            if given_up.is_set():
                raise CancelledError

        with plan, ThreadPoolExecutor(1, thread_name_prefix="export") as pool:
            proof = pool.submit(self.prove, machine_id, point_id, stop_if_given_up, no_point)

            def tell(done_bytes: int, total_bytes: int) -> None:
                if proof.done():
                    proof.result()
                if progress is not None:
                    progress(done_bytes, total_bytes)

            try:
                plan.write_to(path, tell, proof.result)
            except VmdkDamaged:
                proof.result()  # says more, and which points are still good
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

        Does not verify the chain; call `prove` first.

        since_point_id: the point that the disk already holds, so that only what changed since then
            is written, zeros included; none means a new disk, and only data is written.
        is_blank: whether a new disk is known to be all zeros; if not, the runs cover all of it.

        Raises:
            PointMissing, DiskMissing, ChainBroken: there is no such disk to restore.
            PointUnrelated: the point does not build on the one that the disk holds.
            ChainDamaged: a file is not the stream that its manifest says.
        """
        chain = self.chain(machine_id, point_id)
        layers = _disk_layers(chain, disk_number)
        counting, held_bytes = _due_since(chain, layers, since_point_id, is_blank)
        links, pool = self._open_layers(layers)
        try:
            return RestorePlan(links, pool, counting, held_bytes)
        except VmdkDamaged as error:
            pool.close()
            raise _damaged(machine_id, point_id, error) from error
        except BaseException:
            pool.close()
            raise

    def open_disk(self, machine_id: str, point_id: str, disk_number: int) -> MergedDisk:
        """Open the disk as a guest would see it; raises the same as `plan_export`."""
        return MergedDisk(*self._open_links(machine_id, point_id, disk_number))

    # Inside

    def _with_proven_points(
        self,
        fault: ChainFault,
        machine_id: str,
        point_id: str,
        progress: Progress | None,
        needs_content: NeedsContent,
    ) -> ChainFault:
        """Return the same fault with the machine's points that pass a full check."""
        report = self.check(progress, machine_id, needs_content)
        good_point_ids = [point.point_id for point in report.good_points]
        text = refusal(point_id, fault.findings, good_point_ids)
        return type(fault)(text, fault.findings, good_point_ids)

    def _access(self, machine_id: str, parent_point_id: str | None) -> StoreAccess:
        check_id(machine_id)
        machine_folder = self.root / "machines" / machine_id

        def load_parent() -> Manifest | None:
            if parent_point_id is None:
                return None
            try:
                return self.get_point(machine_id, parent_point_id)
            except (PointMissing, ManifestDamaged):
                return None

        return StoreAccess(
            root=self.root,
            machine_folder=machine_folder,
            points=machine_folder / "points",
            unfinished=machine_folder / "unfinished",
            space=self._space,
            check_identity=self.check_identity,
            open_table=self._open_table,
            find_folder=lambda point_id: self.find_folder(machine_id, point_id),
            load_parent=load_parent,
        )

    def _open_links(
        self, machine_id: str, point_id: str, disk_number: int
    ) -> tuple[list[StreamFile], FilePool]:
        """Open the files of one disk's chain, newest first."""
        layers = _disk_layers(self.chain(machine_id, point_id), disk_number)
        return self._open_layers(layers)

    def _open_layers(self, layers: Sequence[_DiskLayer]) -> tuple[list[StreamFile], FilePool]:
        newest = layers[0][0]
        folders = self.folders(newest.machine_id)
        pool = FilePool()
        try:
            parents = [disk for _, disk in layers[1:]]
            links = [
                _open_link(folders[point.point_id] / disk.file, pool, disk, parent)
                for (point, disk), parent in zip_longest(layers, parents)
            ]
        except (VmdkDamaged, KeyError) as error:
            pool.close()
            raise _damaged(newest.machine_id, newest.point_id, error) from error
        except BaseException:
            pool.close()
            raise
        return links, pool

    def _open_table(self, manifest: Manifest, disk: DiskEntry) -> GrainTable:
        """Open the digest table of a disk; rebuild it if it cannot be trusted."""
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
                f"Recovery point {manifest.point_id} names a different parent than the"
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


def _accept_any_folder() -> None:
    pass


def _disk_layers(chain: Sequence[Manifest], disk_number: int) -> list[_DiskLayer]:
    """Return the points that hold part of a disk, with its entry in each, newest first."""
    layers: list[_DiskLayer] = []
    number: int | None = disk_number
    for point in reversed(chain):
        if number is None:
            break
        disk = point.disk(number)
        layers.append((point, disk))
        number = disk.parent[1] if disk.parent else None
    return layers


def _due_since(
    chain: Sequence[Manifest],
    layers: Sequence[_DiskLayer],
    since_point_id: str | None,
    is_blank: bool,
) -> tuple[int, int]:
    """Return how many of a disk's layers a restore needs, and how far the disk holds the rest."""
    _, disk = layers[0]
    new = len(layers), disk.capacity_bytes if is_blank else 0
    if since_point_id is None:
        return new
    newer = points_since(chain, since_point_id)
    if len(newer) < len(layers):
        return len(newer), layers[len(newer)][1].capacity_bytes
    since = chain[-1 - len(newer)]
    # A disk that was sent whole again replaces what the real disk holds.
    return (len(layers), 0) if since.find_disk_by_key(disk.key) else new


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
    """Return the same content id for every export of a disk, so that exports are identical."""
    cid = blake3(json.dumps([point_id, disk_number]).encode()).hexdigest()[:8]
    return "00000001" if cid in ("ffffffff", "fffffffe", "00000000") else cid


def _damaged(machine_id: str, point_id: str, error: Exception) -> ChainDamaged:
    finding = Fault("damaged", machine_id, point_id, str(error))
    return ChainDamaged(refusal(point_id, [finding], None), [finding])
