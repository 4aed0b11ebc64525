"""Check a store, and clean it up as a report says: two verbs, since a check changes nothing."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .errors import StoreBusy, StoreError
from .folders import WriterLock, is_being_written, is_replica, remove_folder
from .inventory import Inventory, find_culprits
from .manifest import Manifest
from .proof import Fault, NeedsContent, Progress, Report, every_point, prove_files


def check(
    inventory: Inventory,
    progress: Progress | None = None,
    machine_id: str | None = None,
    needs_content: NeedsContent = every_point,
) -> Report:
    """Read every point of all machines or of one, and report; changes nothing."""
    machine_ids = inventory.machine_ids() if machine_id is None else [machine_id]
    findings: list[Fault] = []
    leftovers: list[Path] = []
    points: list[Manifest] = []
    pairs: list[tuple[Path, Manifest]] = []
    for each_id in machine_ids:
        readable, damaged = inventory.readable_points(each_id)
        pairs += readable
        points += [point for _, point in readable]
        findings += damaged
        leftovers += _leftovers(inventory, each_id)
    findings += prove_files(pairs, progress, needs_content)
    bad = {finding.point_id for finding in findings}
    culprits = find_culprits(points, bad)
    findings += _missing_parents(points, bad)
    for point in points:
        culprit = culprits[point.point_id]
        if culprit is not None and culprit != point.point_id:
            findings.append(_broken(point, culprit))
    good = tuple(point for point in points if culprits[point.point_id] is None)
    return Report(tuple(findings), good, tuple(leftovers))


def clean(report: Report) -> list[Path]:
    """Remove the leftovers named in the report, except those now being written."""
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


@dataclass(frozen=True)
class Unfinished:
    """A point that is half here: arriving, being written, or left by a process that died.

    announced_bytes: what its manifest says that it will take; 0 if that cannot be read.
    changed_at: when something last arrived.
    """

    path: Path
    announced_bytes: int
    changed_at: datetime


def unfinished(inventory: Inventory, machine_id: str) -> list[Unfinished]:
    """Return what is half here of a machine; changes nothing."""
    found = []
    for path in sorted((inventory.root / "machines" / machine_id).glob("unfinished/*")):
        if not path.is_dir():
            continue
        point_id = path.name[-36:]
        manifest = None
        with suppress(StoreError):
            manifest = inventory.find_arriving(machine_id, point_id)
        with suppress(FileNotFoundError):  # finished meanwhile
            seconds = max(each.stat().st_mtime for each in (path, *path.iterdir()))
            found.append(
                Unfinished(
                    path,
                    manifest.stored_bytes if manifest is not None else 0,
                    datetime.fromtimestamp(seconds, UTC),
                )
            )
    return found


def expire(inventory: Inventory, machine_id: str, before: datetime) -> list[Path]:
    """Remove what is half here of a machine and to which nothing was added since then.

    What is being written now stays, whatever its age.
    """
    removed = []
    for each in unfinished(inventory, machine_id):
        if each.changed_at >= before:
            continue
        with suppress(StoreBusy), WriterLock(each.path.parent, each.path.name):
            remove_folder(each.path)
            removed.append(each.path)
    return removed


def _leftovers(inventory: Inventory, machine_id: str) -> Iterator[Path]:
    machine_folder = inventory.root / "machines" / machine_id
    for path in sorted(machine_folder.glob("unfinished/*")):
        # A replica waits for its next slice; it is not a leftover.
        if is_replica(path.name) or not path.is_dir():
            continue
        if not is_being_written(path.parent, path.name):
            yield path
    yield from sorted(machine_folder.glob("points/*/*.partial"))


def _missing_parents(points: Sequence[Manifest], bad_point_ids: set[str]) -> list[Fault]:
    """Return one finding for each missing parent."""
    here = {point.point_id for point in points} | bad_point_ids
    children = {
        point.parent_point_id: point
        for point in reversed(points)
        if point.parent_point_id is not None and point.parent_point_id not in here
    }
    return [
        Fault(
            "missing",
            child.machine_id,
            parent_id,
            f"{child.machine_name}, recovery point {parent_id}: is not in the store, but"
            f" {child.point_id} needs it",
            child.machine_name,
        )
        for parent_id, child in children.items()
    ]


def _broken(point: Manifest, culprit: str) -> Fault:
    return Fault(
        "broken",
        point.machine_id,
        point.point_id,
        f"{point.machine_name}, recovery point {point.point_id}: cannot be used without {culprit}",
        point.machine_name,
    )
