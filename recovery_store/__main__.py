"""The store from a shell: `python -m recovery_store COMMAND …`, as `--help` lists them.

Exit codes: 0 done, or no problems found; 1 something is damaged, missing or different; 2 the
command failed, with the reason on standard error.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .archiving import archive, consume
from .comparing import find_difference
from .errors import (
    ChainBroken,
    ChainDamaged,
    ChainFault,
    MachineMissing,
    PointMissing,
    StoreError,
    StoreUnusable,
)
from .importing import import_images
from .manifest import Manifest
from .store import Store
from .vmdk.reader import RawFile

_DONE, _NOT_GOOD, _IMPOSSIBLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except ChainFault as error:
        _complain(error)
        for point_id in error.good_point_ids:
            print(f"good: {point_id}", file=sys.stderr)
        return _NOT_GOOD
    except StoreError as error:
        _complain(error)
    except BrokenPipeError:
        # The reader has seen enough; keep the interpreter from complaining at exit.
        sys.stderr.close()
    except OSError as error:
        _complain(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return _IMPOSSIBLE


def _complain(error: Exception) -> None:
    code = f" [{error.code}]" if isinstance(error, StoreError) else ""
    print(f"error: {error}{code}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recovery_store", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("import", help="add a recovery point made of disk images")
    command.add_argument("store", type=Path)
    command.add_argument("images", type=Path, nargs="+", metavar="DISK.raw")
    command.add_argument("--machine", required=True, metavar="NAME", type=_machine_name)
    command.add_argument(
        "--parent", metavar="POINT", help="add an incremental on top of this point"
    )
    command.set_defaults(run=_import)

    command = commands.add_parser("list", help="list the recovery points, oldest first")
    command.add_argument("store", type=Path)
    command.add_argument("--json", action="store_true", dest="is_json")
    command.set_defaults(run=_list)

    command = commands.add_parser("check", help="verify every file against its digests")
    command.add_argument("store", type=Path)
    command.set_defaults(run=_check)

    command = commands.add_parser(
        "export", help="verify a point and write one of its disks as a single VMDK"
    )
    command.add_argument("store", type=Path)
    command.add_argument("point")
    command.add_argument("disk_number", type=int)
    command.add_argument("out", type=Path, metavar="OUT.vmdk")
    command.set_defaults(run=_export)

    command = commands.add_parser("compare", help="compare a point's disk with a disk image")
    command.add_argument("store", type=Path)
    command.add_argument("point")
    command.add_argument("disk_number", type=int)
    command.add_argument("image", type=Path, metavar="DISK.raw")
    command.set_defaults(run=_compare)

    command = commands.add_parser("archive", help="copy a machine's points into a folder")
    command.add_argument("store", type=Path)
    command.add_argument("machine", help="its name or id", metavar="MACHINE")
    command.add_argument("folder", type=Path, metavar="FOLDER")
    command.add_argument(
        "--point", metavar="POINT", help="only this point and the points it builds on"
    )
    command.set_defaults(run=_archive)

    command = commands.add_parser("consume", help="copy an archive's points into the store")
    command.add_argument("store", type=Path)
    command.add_argument("folder", type=Path, metavar="FOLDER")
    command.set_defaults(run=_consume)
    return parser


def _machine_name(text: str) -> str:
    if not text.strip() or len(text) > 200 or not text.isprintable():
        raise argparse.ArgumentTypeError("a machine's name must have 1 to 200 printable characters")
    return text


def _existing_store(path: Path) -> Store:
    if not (path / "machines").is_dir():
        raise StoreUnusable(f"{path} is not a store: it has no folder `machines`")
    return Store(path)


def _get_point(store: Store, point_id: str) -> Manifest:
    machine_id = store.find_machine_of(point_id)
    if machine_id is None:
        raise PointMissing(f"The store {store.root} holds no recovery point {point_id!r}")
    return store.get_point(machine_id, point_id)


def _import(options: argparse.Namespace) -> int:
    store = Store(options.store)
    manifest = import_images(store, options.machine, options.images, options.parent)
    print(
        f"{manifest.kind} of {manifest.machine_name}: {len(manifest.disks)} disks,"
        f" {manifest.stored_bytes} bytes stored"
    )
    print(manifest.point_id)
    return _DONE


def _list(options: argparse.Namespace) -> int:
    store = _existing_store(options.store)
    points: list[Manifest] = []
    for machine_id in store.machine_ids():
        for folder in store.unreadable_points(machine_id):
            print(f"unreadable: {folder}; `check` says why", file=sys.stderr)
        points += store.points(machine_id)
    if options.is_json:
        print(json.dumps([_summary(point) for point in points], indent=2))
        return _DONE
    for point in points:
        disks = " ".join(f"{disk.number}:{disk.capacity_bytes}" for disk in point.disks)
        print(
            f"{point.point_id}  {point.taken_at:%Y-%m-%d %H:%M:%S}Z  {point.machine_name}"
            f"  {point.kind}  parent={point.parent_point_id or '-'}"
            f"  stored={point.stored_bytes}  disks={disks}"
        )
    return _DONE


def _summary(point: Manifest) -> dict[str, Any]:
    return {
        "point_id": point.point_id,
        "machine_id": point.machine_id,
        "machine_name": point.machine_name,
        "taken_at": point.taken_at.isoformat(),
        "kind": point.kind,
        "parent_point_id": point.parent_point_id,
        "consistency": point.consistency,
        "owner_core_id": point.owner_core_id,
        "owner_core_name": point.owner_core_name,
        "ownership_epoch": point.ownership_epoch,
        "stored_bytes": point.stored_bytes,
        "manifest_digest": point.digest,
        "description": point.description,
        "disks": [
            {
                "number": disk.number,
                "key": disk.key,
                "capacity_bytes": disk.capacity_bytes,
                "file": disk.file,
                "file_bytes": disk.file_bytes,
                "digest": disk.digest,
                "is_delta": disk.parent is not None,
            }
            for disk in point.disks
        ],
    }


def _check(options: argparse.Namespace) -> int:
    report = _existing_store(options.store).check()
    for finding in report.findings:
        print(finding)
    for point in report.good_points:
        print(
            f"good: {point.point_id} of {point.machine_name}, {point.taken_at:%Y-%m-%dT%H:%M:%SZ}"
        )
    for path in report.leftovers:
        print(f"leftover: {path} (unfinished, harmless)")
    return _DONE if report.is_good else _NOT_GOOD


def _export(options: argparse.Namespace) -> int:
    store = _existing_store(options.store)
    point = _get_point(store, options.point)
    point.disk(options.disk_number)
    store.export(point.machine_id, point.point_id, options.disk_number, options.out)
    print(f"{options.out}: {options.out.stat().st_size} bytes")
    return _DONE


def _compare(options: argparse.Namespace) -> int:
    store = _existing_store(options.store)
    point = _get_point(store, options.point)
    with RawFile(options.image) as image:
        try:
            disk = store.open_disk(point.machine_id, point.point_id, options.disk_number)
            with disk:
                difference = find_difference(disk, image)
        except (ChainBroken, ChainDamaged) as error:
            _complain(error)
            return _IMPOSSIBLE
    if difference is None:
        print("identical")
        return _DONE
    print(f"different: {difference}")
    return _NOT_GOOD


def _archive(options: argparse.Namespace) -> int:
    store = _existing_store(options.store)
    machine_id = _get_machine_id(store, options.machine)
    archived = Store(options.folder)
    before = set(archived.folders(machine_id))
    _report_copied(archived, archive(store, machine_id, options.folder, options.point), before)
    return _DONE


def _consume(options: argparse.Namespace) -> int:
    store = Store(options.store)
    before = {point_id for each in store.machine_ids() for point_id in store.folders(each)}
    _report_copied(store, consume(store, options.folder), before)
    return _DONE


def _report_copied(target: Store, point_ids: Sequence[str], before: set[str]) -> None:
    """Print one line for each point: what happened to it, its id, machine, time and size."""
    for point_id in point_ids:
        point = _get_point(target, point_id)
        print(
            f"{'already there' if point_id in before else 'copied'}: {point_id}"
            f" of {point.machine_name}, {point.taken_at:%Y-%m-%dT%H:%M:%SZ},"
            f" {point.stored_bytes} bytes"
        )


def _get_machine_id(store: Store, name_or_id: str) -> str:
    if name_or_id in store.machine_ids():
        return name_or_id
    found = store.machine_ids_named(name_or_id)
    if len(found) != 1:
        raise MachineMissing(
            f"The store {store.root} holds {len(found)} machines named {name_or_id!r}"
            f" ({', '.join(found)}); name one by its id"
            if found
            else f"The store {store.root} holds no machine {name_or_id!r}"
        )
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
