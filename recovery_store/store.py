"""The store: recovery points of many machines, on one file system.

This is the door for everyone else; no other package opens the store's files. Reading needs no
lock, since files never change once a point exists. Several processes may use a store at once.
"""

import json
import logging
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from blake3 import blake3

from .errors import (
    ChainBroken,
    ChainDamaged,
    ManifestDamaged,
    ParentUnfit,
    PointExists,
    PointInUse,
    PointMissing,
    ReplicaRefused,
    StoreBusy,
    VmdkDamaged,
)
from .folders import (
    Space,
    WriterLock,
    ensure_folder,
    full_store_named,
    held_parents,
    is_being_written,
    machine_lock,
    remove_folder,
    sync_folder,
)
from .grain_table import GrainTable, TableOwner, TableUnfit, rebuild_table, table_file_name
from .manifest import MANIFEST_FILE, DiskEntry, Manifest, check_id
from .point_writer import PointPlace, PointWriter, new_draft
from .proof import Finding, Progress, Proof, Report, prove_files
from .replica import Replica
from .vmdk.descriptor import NO_PARENT
from .vmdk.disk import MergedDisk
from .vmdk.merge import ExportPlan
from .vmdk.reader import FilePool, StreamFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PointFile:
    """One file of a point, as a peer needs to know it; the manifest comes last."""

    name: str
    length_bytes: int
    digest: str


class Store:
    """All recovery points below one folder.

    root: made at the first write.
    reserve_bytes: what stays free on the file system; none means 256 MiB, or 2 % of a small one.
    """

    def __init__(self, root: Path, reserve_bytes: int | None = None) -> None:
        self.root = Path(root)
        self._space = Space(self.root, reserve_bytes)
        self._rebuilding = threading.Lock()

    # Look

    def machine_ids(self) -> list[str]:
        """Return the ids of the machines that the store holds, sorted."""
        try:
            names = [path.name for path in (self.root / "machines").iterdir() if path.is_dir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if _is_id(name))

    def points(self, machine_id: str) -> list[Manifest]:
        """Return the machine's points, oldest first.

        A point whose manifest is damaged is left out here and logged; `check` names it, and
        `get_point` refuses it.
        """
        points = []
        for point_id in self._folders(machine_id):
            try:
                points.append(self.get_point(machine_id, point_id))
            except ManifestDamaged as error:
                log.warning("manifest damaged point=%s error=%s", point_id, error)
        return sorted(points, key=lambda point: (point.taken_at, point.point_id))

    def unreadable_points(self, machine_id: str) -> list[Path]:
        """Return the folders of points whose manifest is missing or damaged."""
        return [
            self._folders(machine_id)[finding.point_id]
            for finding in self._readable_points(machine_id)[1]
        ]

    def find_newest(self, machine_id: str) -> Manifest | None:
        """Return the machine's newest point, or none; raises ManifestDamaged."""
        folders = self._folders(machine_id)
        return self.get_point(machine_id, list(folders)[-1]) if folders else None

    def find_point(self, point_id: str) -> Manifest | None:
        """Return that point of whichever machine, or none.

        Raises:
            ManifestDamaged: it is there, but its manifest is not sound.
        """
        if not _is_id(point_id):
            return None
        for machine_id in self.machine_ids():
            if point_id in self._folders(machine_id):
                return self.get_point(machine_id, point_id)
        return None

    def get_point(self, machine_id: str, point_id: str) -> Manifest:
        """Return that point of that machine.

        Raises:
            PointMissing: the store holds no such point.
            ManifestDamaged: it is there, but its manifest is missing or not sound.
        """
        folder = self._folders(machine_id).get(point_id)
        if folder is None:
            raise PointMissing(f"The store {self.root} holds no recovery point {point_id}")
        return _read_manifest(folder, machine_id, point_id)

    def chain(self, machine_id: str, point_id: str) -> list[Manifest]:
        """Return the points that a point needs: the base image first, the point itself last.

        Looks whether every file is there with its length; `prove` looks inside.

        Raises:
            PointMissing: the store holds no such point.
            ChainBroken: an ancestor, a manifest or a file is missing; names it, and the points
                that can still be used.
        """
        folders = self._folders(machine_id)
        if point_id not in folders:
            raise PointMissing(f"The store {self.root} holds no recovery point {point_id}")
        chain: list[Manifest] = []
        wanted: str | None = point_id
        while wanted is not None:
            link = self._look_at_link(machine_id, wanted, chain[-1] if chain else None, folders)
            if isinstance(link, Finding):
                good_point_ids = self._complete_point_ids(machine_id)
                raise ChainBroken(_refusal(point_id, [link], good_point_ids), good_point_ids)
            chain.append(link)
            wanted = link.parent_point_id
        return chain[::-1]

    def get_folder(self, machine_id: str, point_id: str) -> Path:
        """Return where that point's files lie; raises PointMissing."""
        folder = self._folders(machine_id).get(point_id)
        if folder is None:
            raise PointMissing(f"The store {self.root} holds no recovery point {point_id}")
        return folder

    def files(self, machine_id: str, point_id: str) -> list[PointFile]:
        """Return the files that make the point, in the order in which to send them."""
        manifest = self.get_point(machine_id, point_id)
        content = manifest.to_bytes()
        return [
            *(PointFile(disk.file, disk.file_bytes, disk.digest) for disk in manifest.disks),
            PointFile(MANIFEST_FILE, len(content), blake3(content).hexdigest()),
        ]

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
        parent = self._parent_of_replica(manifest)
        with suppress(PointMissing):
            here = self.get_point(machine_id, manifest.point_id)
            if here.digest != manifest.digest:
                raise PointExists(
                    f"Recovery point {manifest.point_id} is here already, with other content"
                )
        place = self._place(machine_id, manifest.parent_point_id)
        with full_store_named(self.root, "beginning a replica"):
            return Replica(place, manifest, parent)

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
        chain = self.chain(machine_id, point_id)
        folders = self._folders(machine_id)
        points = [(folders[point.point_id], point) for point in chain if point.point_id in folders]
        findings = prove_files(points, progress)
        if findings:
            report = self.check(progress, machine_id)
            good_point_ids = [point.point_id for point in report.good_points]
            raise ChainDamaged(
                _refusal(point_id, findings, good_point_ids), findings, good_point_ids
            )
        return Proof(tuple(chain), sum(point.stored_bytes for point in chain))

    def check(self, progress: Progress | None = None, machine_id: str | None = None) -> Report:
        """Read everything, of all machines or of one, and report; changes nothing."""
        machine_ids = self.machine_ids() if machine_id is None else [machine_id]
        findings: list[Finding] = []
        leftovers: list[Path] = []
        points: list[Manifest] = []
        pairs: list[tuple[Path, Manifest]] = []
        for each_id in machine_ids:
            readable, damaged = self._readable_points(each_id)
            pairs += readable
            points += [point for _, point in readable]
            findings += damaged
            leftovers += self._leftovers(each_id)
        findings += prove_files(pairs, progress)
        bad = {finding.point_id for finding in findings}
        culprits = _culprits(points, bad)
        findings += _missing_parents(points, bad)
        for point in points:
            culprit = culprits[point.point_id]
            if culprit is not None and culprit != point.point_id:
                findings.append(_broken(point, culprit))
        good = tuple(point for point in points if culprits[point.point_id] is None)
        return Report(tuple(findings), good, tuple(leftovers))

    def clean(self, report: Report) -> list[Path]:
        """Remove the leftovers that the report names, unless somebody writes there now."""
        removed = []
        for path in report.leftovers:
            if path.is_file():
                path.unlink(missing_ok=True)
                removed.append(path)
                continue
            with suppress(StoreBusy), WriterLock(path.parent, path.name):
                remove_folder(path)
                removed.append(path)
        return removed

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
            raise ChainDamaged(f"Recovery point {point_id} cannot be exported: {error}") from error
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
        with (
            ThreadPoolExecutor(1, thread_name_prefix="export") as pool,
            self.plan_export(machine_id, point_id, disk_number) as plan,
        ):
            proof = pool.submit(self.prove, machine_id, point_id)
            plan.write_to(path, progress, lambda: proof.result())

    def open_disk(self, machine_id: str, point_id: str, disk_number: int) -> MergedDisk:
        """Open the disk as a guest would see it; errors as in `plan_export`."""
        return MergedDisk(*self._open_links(machine_id, point_id, disk_number))

    # Inside

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
            find_folder=lambda point_id: self._folders(machine_id).get(point_id),
            load_parent=load_parent,
        )

    def _folders(self, machine_id: str) -> dict[str, Path]:
        """Return point id → folder, oldest first, of everything where points are."""
        if not _is_id(machine_id):
            return {}
        try:
            paths = sorted((self.root / "machines" / machine_id / "points").iterdir())
        except FileNotFoundError:
            return {}
        return {path.name[-36:]: path for path in paths if _is_id(path.name[-36:])}

    def _complete_point_ids(self, machine_id: str) -> list[str]:
        """Return the points whose whole chain is there, by a look at names and lengths."""
        folders = self._folders(machine_id)
        points = self.points(machine_id)
        bad = {
            point.point_id
            for point in points
            if isinstance(self._look_at_link(machine_id, point.point_id, None, folders), Finding)
        }
        culprits = _culprits(points, bad)
        return [point.point_id for point in points if culprits[point.point_id] is None]

    def _look_at_link(
        self, machine_id: str, point_id: str, child: Manifest | None, folders: dict[str, Path]
    ) -> Manifest | Finding:
        def finding(code: str, text: str, file: str | None = None) -> Finding:
            return Finding(code, machine_id, point_id, text, file=file)

        folder = folders.get(point_id)
        if folder is None:
            needed_by = f", the parent of {child.point_id}," if child else ""
            return finding("missing", f"recovery point {point_id}{needed_by} is not in the store")
        try:
            manifest = _read_manifest(folder, machine_id, point_id)
        except ManifestDamaged as error:
            return finding("damaged", str(error), MANIFEST_FILE)
        if child is not None and child.parent_digest != manifest.digest:
            return finding(
                "damaged",
                f"recovery point {point_id} is not the one that its child {child.point_id} names",
                MANIFEST_FILE,
            )
        for disk in manifest.disks:
            path = folder / disk.file
            try:
                length_bytes = path.stat().st_size
            except OSError:
                return finding("missing", f"{path} is not there", disk.file)
            if length_bytes != disk.file_bytes:
                return finding(
                    "damaged",
                    f"{path} is {length_bytes} bytes long, expected {disk.file_bytes}",
                    disk.file,
                )
        return manifest

    def _open_links(
        self, machine_id: str, point_id: str, disk_number: int
    ) -> tuple[list[StreamFile], FilePool]:
        """Open the files of one disk's chain, the newest first."""
        chain = self.chain(machine_id, point_id)
        by_id = {point.point_id: point for point in chain}
        folders = self._folders(machine_id)
        links: list[StreamFile] = []
        pool = FilePool()
        try:
            place: tuple[str, int] | None = (point_id, disk_number)
            while place is not None:
                disk = by_id[place[0]].disk(place[1])
                parent = by_id[disk.parent[0]].disk(disk.parent[1]) if disk.parent else None
                path = folders[place[0]] / disk.file
                links.append(_open_link(path, pool, disk, parent))
                place = disk.parent
        except (VmdkDamaged, KeyError) as error:
            pool.close()
            raise ChainDamaged(f"Recovery point {point_id} cannot be read: {error}") from error
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
            rebuild_table(path, merged, owner)
            return GrainTable(path, owner, disk.capacity_bytes)

    def _parent_of_replica(self, manifest: Manifest) -> Manifest | None:
        if manifest.parent_point_id is None:
            return None
        try:
            parent = self.get_point(manifest.machine_id, manifest.parent_point_id)
        except PointMissing as error:
            raise ParentUnfit(
                f"Recovery point {manifest.point_id} needs its parent"
                f" {manifest.parent_point_id} here first"
            ) from error
        if parent.digest != manifest.parent_digest:
            raise ParentUnfit(
                f"Recovery point {manifest.point_id} names another parent than the"
                f" {manifest.parent_point_id} that is here"
            )
        return parent

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

    def _readable_points(
        self, machine_id: str
    ) -> tuple[list[tuple[Path, Manifest]], list[Finding]]:
        readable, findings = [], []
        for point_id, folder in self._folders(machine_id).items():
            try:
                readable.append((folder, _read_manifest(folder, machine_id, point_id)))
            except ManifestDamaged as error:
                findings.append(
                    Finding("damaged", machine_id, point_id, str(error), file=MANIFEST_FILE)
                )
        readable.sort(key=lambda pair: (pair[1].taken_at, pair[1].point_id))
        return readable, findings

    def _leftovers(self, machine_id: str) -> Iterator[Path]:
        machine_folder = self.root / "machines" / machine_id
        for path in sorted(machine_folder.glob("unfinished/*")):
            # A replica waits for its next piece; it is no leftover.
            is_replica = path.name.startswith("replica-")
            if path.is_dir() and not is_replica and not is_being_written(path.parent, path.name):
                yield path
        yield from sorted(machine_folder.glob("points/*/*.partial"))


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _read_manifest(folder: Path, machine_id: str, point_id: str) -> Manifest:
    path = folder / MANIFEST_FILE
    try:
        manifest = Manifest.from_bytes(path.read_bytes())
    except OSError as error:
        raise ManifestDamaged(f"{path} cannot be read: {error.strerror}") from error
    except ManifestDamaged as error:
        raise ManifestDamaged(f"{path}: {error}") from error
    if (manifest.machine_id, manifest.point_id) != (machine_id, point_id):
        raise ManifestDamaged(f"{path} is of another recovery point, {manifest.point_id}")
    if manifest.folder_name != folder.name:
        raise ManifestDamaged(f"{path} lies in a folder that is not its own")
    return manifest


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


def _culprits(points: Sequence[Manifest], bad_point_ids: set[str]) -> dict[str, str | None]:
    """Return for each point whose fault makes it useless: its own, an ancestor's, or none's."""
    by_id = {point.point_id: point for point in points}
    known: dict[str, str | None] = {}
    for point in points:
        path: list[str] = []
        current: str | None = point.point_id
        while current is not None and current not in known:
            link = by_id.get(current)
            if link is None or current in bad_point_ids or current in path:
                known[current] = current
                break
            path.append(current)
            parent = by_id.get(link.parent_point_id or "")
            if parent is not None and parent.digest != link.parent_digest:
                known[current] = parent.point_id
                break
            current = link.parent_point_id
        culprit = None if current is None else known[current]
        for each in path:
            known.setdefault(each, culprit)
    return known


def _missing_parents(points: Sequence[Manifest], bad_point_ids: set[str]) -> list[Finding]:
    """Return one finding for each parent that is not there at all."""
    here = {point.point_id for point in points} | bad_point_ids
    children = {
        point.parent_point_id: point
        for point in reversed(points)
        if point.parent_point_id is not None and point.parent_point_id not in here
    }
    return [
        Finding(
            "missing",
            child.machine_id,
            parent_id,
            f"{child.machine_name}, recovery point {parent_id}: is not in the store, but"
            f" {child.point_id} needs it",
            child.machine_name,
        )
        for parent_id, child in children.items()
    ]


def _broken(point: Manifest, culprit: str) -> Finding:
    return Finding(
        "broken",
        point.machine_id,
        point.point_id,
        f"{point.machine_name}, recovery point {point.point_id}: cannot be used without {culprit}",
        point.machine_name,
    )


def _export_cid(point_id: str, disk_number: int) -> str:
    """Return the same content id for every export of a disk, so that exports are the same."""
    cid = blake3(json.dumps([point_id, disk_number]).encode()).hexdigest()[:8]
    return "00000001" if cid in ("ffffffff", "fffffffe", "00000000") else cid


def _refusal(point_id: str, findings: Sequence[Finding], good_point_ids: Sequence[str]) -> str:
    good = ", ".join(good_point_ids) or "none"
    faults = "; ".join(finding.text for finding in findings)
    return (
        f"Recovery point {point_id} cannot be used: {faults}. Points of this machine that stay"
        f" good: {good}"
    )
