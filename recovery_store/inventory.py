"""What a store holds: machines, points, chains. Changes nothing and verifies nothing.

A point is a folder in `points`, named after its time and id; everything else is in its manifest.
"""

import logging
import os
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from .errors import (
    ChainBroken,
    MachineMissing,
    ManifestDamaged,
    PointMissing,
    PointUnrelated,
    StoreUnusable,
)
from .folders import open_regular, replica_name
from .manifest import MANIFEST_FILE, MANIFEST_LIMIT_BYTES, Manifest, is_point_file
from .order import oldest_first
from .proof import Fault

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PointFile:
    """One file of a point, as a peer needs to know it."""

    name: str
    length_bytes: int
    digest: str


class Inventory:
    """The points below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def machine_ids(self) -> list[str]:
        """Return the ids of the machines that the store holds, sorted."""
        try:
            names = [path.name for path in (self.root / "machines").iterdir() if path.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreUnusable(f"The store {self.root} cannot be read: {error}") from error
        return sorted(name for name in names if _is_id(name))

    def check_machine(self, machine_id: str) -> None:
        """Check that the store has points of the machine.

        Raises:
            MachineMissing: the store has no point of it.
        """
        if not self.folders(machine_id):
            raise MachineMissing(f"The store {self.root} holds no recovery point of {machine_id}")

    def machine_ids_named(self, machine_name: str) -> list[str]:
        """Return the ids of the machines whose newest point has that name."""
        found = []
        for machine_id in self.machine_ids():
            newest = self.find_newest(machine_id)
            if newest is not None and newest.machine_name == machine_name:
                found.append(machine_id)
        return found

    def points(self, machine_id: str) -> list[Manifest]:
        """Return the machine's points, oldest first by `order.in_order`.

        Points with a damaged manifest are left out and logged; `check` names them and `get_point`
        refuses them.
        """
        points = []
        for point_id in self.folders(machine_id):
            try:
                points.append(self.get_point(machine_id, point_id))
            except ManifestDamaged as error:
                log.warning("manifest damaged point=%s error=%s", point_id, error)
        return oldest_first(points)

    def unreadable_points(self, machine_id: str) -> list[Path]:
        """Return the folders of points whose manifest is missing or damaged."""
        return [
            self.folders(machine_id)[finding.point_id]
            for finding in self.readable_points(machine_id)[1]
        ]

    def find_newest(self, machine_id: str) -> Manifest | None:
        """Return the newest of the machine's points whose manifest is intact, or none."""
        return next(reversed(self.points(machine_id)), None)

    def find_point(self, machine_id: str, point_id: str) -> Manifest | None:
        """Return that point of that machine, or none.

        Raises:
            ManifestDamaged: it exists, but its manifest is damaged.
        """
        folder = self.find_folder(machine_id, point_id)
        return None if folder is None else _read_point(folder, machine_id, point_id)

    def find_machine_of(self, point_id: str) -> str | None:
        """Return the id of the machine that the point belongs to, or none.

        Lists the points of every machine. For command lines, where people name only the point.
        """
        return next((each for each in self.machine_ids() if point_id in self.folders(each)), None)

    def find_arriving(self, machine_id: str, point_id: str) -> Manifest | None:
        """Return the manifest of a point that has begun to arrive from another core, or none.

        Raises:
            ManifestDamaged: part of the point is here, but its manifest is damaged.
        """
        if not (_is_id(machine_id) and _is_id(point_id)):
            return None
        folder = self.root / "machines" / machine_id / "unfinished" / replica_name(point_id)
        return _read_manifest(folder, machine_id, point_id) if folder.is_dir() else None

    def get_point(self, machine_id: str, point_id: str) -> Manifest:
        """Return that point of that machine.

        Raises:
            PointMissing: the store has no such point.
            ManifestDamaged: it exists, but its manifest is missing or damaged.
        """
        return _read_point(self.get_folder(machine_id, point_id), machine_id, point_id)

    def chain(self, machine_id: str, point_id: str) -> list[Manifest]:
        """Return the chain of a point: the base image first, the point itself last.

        Checks that every file exists and has its length; `prove` reads the content.

        Raises:
            PointMissing: the store has no such point.
            ChainBroken: an ancestor, a manifest or a file is missing; names it, and the points
                that can still be used.
        """
        folders = self.folders(machine_id)
        if point_id not in folders:
            raise PointMissing(f"The store {self.root} holds no recovery point {point_id}")
        chain: list[Manifest] = []
        wanted: str | None = point_id
        while wanted is not None:
            link = self.check_link(machine_id, wanted, chain[-1] if chain else None, folders)
            if isinstance(link, Fault):
                good_point_ids = self.complete_point_ids(machine_id)
                raise ChainBroken(refusal(point_id, [link], good_point_ids), [link], good_point_ids)
            chain.append(link)
            wanted = link.parent_point_id
        return chain[::-1]

    def common_point(
        self, machine_id: str, point_ids: Collection[str], point_id: str | None = None
    ) -> Manifest | None:
        """Return the newest point in the chain of a point that is among those ids, or none.

        point_ids: the machine's points in another store.
        point_id: whose chain, which includes the point itself; none means the newest point.
        """
        points = {point.point_id: point for point in self.points(machine_id)}
        at = points.get(point_id) if point_id else next(reversed(points.values()), None)
        while at is not None and at.point_id not in point_ids:
            at = points.get(at.parent_point_id or "")
        return at

    def bytes_since(self, machine_id: str, point_id: str, since_point_id: str | None) -> int:
        """Return the size of the disk files that a point needs beyond an earlier one.

        since_point_id: none means the whole chain.

        Raises:
            PointMissing, ChainBroken: see `chain`.
            PointUnrelated: the earlier point is not in the chain.
        """
        chain = self.chain(machine_id, point_id)
        newer = chain if since_point_id is None else points_since(chain, since_point_id)
        return sum(point.stored_bytes for point in newer)

    def get_folder(self, machine_id: str, point_id: str) -> Path:
        """Return the folder with that point's files; raises PointMissing."""
        folder = self.find_folder(machine_id, point_id)
        if folder is None:
            raise PointMissing(f"The store {self.root} holds no recovery point {point_id}")
        return folder

    def find_folder(self, machine_id: str, point_id: str) -> Path | None:
        """Return the folder with that point's files, or none.

        Lists only that machine's points, and parses none of their names.
        """
        if not (_is_id(machine_id) and _is_id(point_id)):
            return None
        points = self.root / "machines" / machine_id / "points"
        try:
            with os.scandir(points) as entries:
                name = next((each.name for each in entries if each.name.endswith(point_id)), None)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnusable(f"The store {self.root} cannot be read: {error}") from error
        return None if name is None else points / name

    def files(self, machine_id: str, point_id: str) -> list[PointFile]:
        """Return the files of the point, in the order in which to send them."""
        manifest = self.get_point(machine_id, point_id)
        content = manifest.to_bytes()
        return [
            *(PointFile(disk.file, disk.file_bytes, disk.digest) for disk in manifest.disks),
            PointFile(MANIFEST_FILE, len(content), blake3(content).hexdigest()),
        ]

    def read_file(
        self, machine_id: str, point_id: str, name: str, offset_bytes: int, count_bytes: int
    ) -> bytes:
        """Return a slice of one of the point's files, shorter at its end.

        Raises:
            PointMissing: there is no such point, or no such file in it.
            StoreUnusable: the file cannot be read.
        """
        folder = self.get_folder(machine_id, point_id)
        if not is_point_file(name):
            raise PointMissing(f"Recovery point {point_id} has no file {name[:80]!r}")
        path = folder / name
        try:
            with path.open("rb", buffering=0) as file:
                return os.pread(file.fileno(), count_bytes, offset_bytes)
        except FileNotFoundError as error:
            raise PointMissing(f"Recovery point {point_id} has no file {name[:80]!r}") from error
        except OSError as error:
            raise StoreUnusable(f"{path} cannot be read: {error.strerror}") from error

    def folders(self, machine_id: str) -> dict[str, Path]:
        """Return point id → folder of all of the machine's points, in no useful order."""
        if not _is_id(machine_id):
            return {}
        try:
            paths = sorted((self.root / "machines" / machine_id / "points").iterdir())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreUnusable(f"The store {self.root} cannot be read: {error}") from error
        return {path.name[-36:]: path for path in paths if _is_id(path.name[-36:])}

    def complete_point_ids(self, machine_id: str) -> list[str]:
        """Return the points whose whole chain exists, judged by names and lengths."""
        folders = self.folders(machine_id)
        points = self.points(machine_id)
        bad = {
            point.point_id
            for point in points
            if isinstance(self.check_link(machine_id, point.point_id, None, folders), Fault)
        }
        culprits = find_culprits(points, bad)
        return [point.point_id for point in points if culprits[point.point_id] is None]

    def check_link(
        self, machine_id: str, point_id: str, child: Manifest | None, folders: dict[str, Path]
    ) -> Manifest | Fault:
        """Return a point if all its files exist with their lengths, or else what is wrong."""

        def finding(code: str, text: str, file: str | None = None) -> Fault:
            return Fault(code, machine_id, point_id, text, file=file)

        folder = folders.get(point_id)
        if folder is None:
            needed_by = f", the parent of {child.point_id}," if child else ""
            return finding("missing", f"recovery point {point_id}{needed_by} is not in the store")
        try:
            manifest = _read_point(folder, machine_id, point_id)
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
                return finding("missing", f"{path} is missing", disk.file)
            if length_bytes != disk.file_bytes:
                return finding(
                    "damaged",
                    f"{path} is {length_bytes} bytes long, expected {disk.file_bytes}",
                    disk.file,
                )
        return manifest

    def readable_points(self, machine_id: str) -> tuple[list[tuple[Path, Manifest]], list[Fault]]:
        """Return folders and manifests, oldest first, and a fault for each unreadable one."""
        manifests, findings = [], []
        folders = self.folders(machine_id)
        for point_id, folder in folders.items():
            try:
                manifests.append(_read_point(folder, machine_id, point_id))
            except ManifestDamaged as error:
                findings.append(
                    Fault("damaged", machine_id, point_id, str(error), file=MANIFEST_FILE)
                )
        return [(folders[point.point_id], point) for point in oldest_first(manifests)], findings


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _read_point(folder: Path, machine_id: str, point_id: str) -> Manifest:
    manifest = _read_manifest(folder, machine_id, point_id)
    if manifest.folder_name != folder.name:
        raise ManifestDamaged(f"{folder / MANIFEST_FILE} is in the wrong folder")
    return manifest


def _read_manifest(folder: Path, machine_id: str, point_id: str) -> Manifest:
    path = folder / MANIFEST_FILE
    try:
        with open_regular(path) as file:
            # One byte above the limit is enough to reject it.
            manifest = Manifest.from_bytes(file.read(MANIFEST_LIMIT_BYTES + 1))
    except OSError as error:
        raise ManifestDamaged(f"{path} cannot be read: {error.strerror}") from error
    except ManifestDamaged as error:
        raise ManifestDamaged(f"{path}: {error}") from error
    if (manifest.machine_id, manifest.point_id) != (machine_id, point_id):
        raise ManifestDamaged(f"{path} belongs to another recovery point, {manifest.point_id}")
    return manifest


def points_since(chain: Sequence[Manifest], since_point_id: str) -> Sequence[Manifest]:
    """Return the points of a chain after one of them.

    Raises:
        PointUnrelated: the chain has no such point.
    """
    for number, point in enumerate(chain, start=1):
        if point.point_id == since_point_id:
            return chain[number:]
    raise PointUnrelated(
        f"Recovery point {chain[-1].point_id} does not build on {since_point_id}, so what has"
        " changed between them is unknown; choose a point of its chain, or copy the whole chain"
    )


def find_culprits(points: Sequence[Manifest], bad_point_ids: set[str]) -> dict[str, str | None]:
    """Return for each point which point makes it unusable: itself, an ancestor, or none."""
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


def refusal(point_id: str, findings: Sequence[Fault], good_point_ids: Sequence[str] | None) -> str:
    """Return why a point cannot be used, and which ones can."""
    faults = "; ".join(finding.text for finding in findings)
    text = f"Recovery point {point_id} cannot be used: {faults}"
    if good_point_ids is None:
        return text
    return (
        f"{text}. Points of this machine that are still good: {', '.join(good_point_ids) or 'none'}"
    )
