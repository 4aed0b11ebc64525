"""Whether a folder is this core's store: the same one as ever, and not a disk that is missing.

The store has an identity file, and this core knows its id, beside its own identity. Nothing is
written to a folder with another id or none, so a disk that is not mounted is never replaced by an
empty folder. The id is learned once: from a new store, or from one that holds what the index knows.
"""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from console.identity import this_core
from console.sections import Notice
from protected_machines.models import RecoveryPoint
from recovery_store.errors import StoreError, StoreMissing
from recovery_store.identity import IDENTITY_FILE, ensure_store_id, find_store_id
from recovery_store.inventory import Inventory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownStore:
    """What this core knows of its store; `disk` says where it was when the core learned that."""

    id: str
    disk: str = ""


@dataclass(frozen=True)
class StoreFacts:
    """What tells this core's store from another folder.

    indexed_ids: machines of which the index has points.
    held_ids: machines of which the folder has points.
    """

    known_id: str | None
    found_id: str | None
    indexed_ids: frozenset[str] = frozenset()
    held_ids: frozenset[str] = frozenset()


def is_own_store(facts: StoreFacts) -> bool:
    """Whether the folder is this core's store, or may become it. Pure."""
    if facts.known_id is not None:
        return facts.found_id == facts.known_id
    return not facts.indexed_ids or bool(facts.indexed_ids & facts.held_ids)


def check_own_store() -> None:
    """Check that the folder is this core's store; a new one gets its identity.

    Raises:
        StoreMissing: it is not; the text names the folder, and the disk it was on.
        StoreUnusable: it cannot be read.
    """
    root, known = store_path(), find_known_store()
    found_id = find_store_id(root)
    if not is_own_store(_facts(root, known, found_id)):
        raise StoreMissing(_missing_text(root, known, found_id))
    if known is None:
        adopt_store()


def store_trouble() -> str:
    """Return why the store cannot be used, for people; empty if it can. Changes nothing."""
    root, known = store_path(), find_known_store()
    try:
        found_id = find_store_id(root)
        if is_own_store(_facts(root, known, found_id)):
            return ""
    except StoreError as error:
        return f"{error}. Nothing is written there until it can be read again."
    return _missing_text(root, known, found_id)


def store_notice() -> Notice | None:
    """Return what every page says while the store cannot be used."""
    text = store_trouble()
    return (
        Notice("bad", "The recovery points are missing", text, StoreMissing.code) if text else None
    )


def adopt_store() -> KnownStore:
    """Make the folder this core's store, whatever is in it. Gives it an identity if it has none."""
    root = store_path()
    store = KnownStore(ensure_store_id(root), _disk_of(root))
    path = _known_path()
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps({"id": store.id, "disk": store.disk}))
    partial.replace(path)
    logger.info("store adopted root=%s store_id=%s disk=%s", root, store.id, store.disk)
    return store


def store_path() -> Path:
    return Path(settings.UNDERSTUDY_HOME) / "store"


def find_known_store() -> KnownStore | None:
    """Return the store that this core has; none if it never wrote to one."""
    try:
        whole = json.loads(_known_path().read_text())
    except FileNotFoundError:
        return None
    return KnownStore(whole["id"], whole["disk"])


def _known_path() -> Path:
    return this_core().key_path.with_name("store.json")


def _facts(root: Path, known: KnownStore | None, found_id: str | None) -> StoreFacts:
    if known is not None:
        return StoreFacts(known.id, found_id)
    indexed = RecoveryPoint.objects.order_by().values_list("machine_id", flat=True).distinct()
    return StoreFacts(
        None,
        found_id,
        frozenset(str(machine_id) for machine_id in indexed),
        frozenset(Inventory(root).machine_ids()),
    )


def _missing_text(root: Path, known: KnownStore | None, found_id: str | None) -> str:
    was_on = f" It was on {known.disk}." if known and known.disk else ""
    if known is None:
        what = f"{root} holds none of the machines whose recovery points this core knows"
    elif found_id is None:
        what = f"{root / IDENTITY_FILE} is missing, so {root} is not this core's store"
    else:
        what = f"{root} is another store ({found_id}), not this core's ({known.id})"
    return (
        f"{what}.{was_on} Mount the disk with the recovery points there. Until then nothing is "
        "written to that folder, and no recovery point can be used."
    )


def _disk_of(path: Path) -> str:
    """Return device and mount point of the file system that the folder is on; empty if unknown."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    best = ("", "")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        facts, _, source = line.partition(" - ")
        number, _, mount_point = facts.split()[2:5]
        if number == wanted and path.resolve().is_relative_to(mount_point):
            best = max(best, (mount_point, source.split()[1]), key=lambda each: len(each[0]))
    mount_point, source = best
    return f"{source}, mounted at {mount_point}" if mount_point else ""
