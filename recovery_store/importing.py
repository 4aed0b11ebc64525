"""Add a recovery point made of raw disk images, as if an agent had sent them."""

import secrets
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import ParentUnfit, PointMissing
from .manifest import Manifest
from .point_writer import PointWriter
from .proof import Progress
from .store import Store
from .vmdk.imaging import stream_disk
from .vmdk.reader import RawFile
from .vmdk.writer import StreamWriter

# Nothing froze these images; only their maker knows how consistent they are.
_CONSISTENCY = "not_guaranteed"


def import_images(
    store: Store,
    machine_name: str,
    image_paths: Sequence[Path],
    parent_point_id: str | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Add a point made of these images; image n becomes the machine's disk n.

    With a parent, disks that the parent also has become deltas unless they have shrunk; the others
    are stored whole. Without one, the point is a base image, of the machine with that name if there
    is one.

    Raises:
        SourceUnreadable: an image is missing or cannot be read.
        PointMissing: the parent is not in the store.
        ParentUnfit: the parent belongs to another machine.
        StoreError: see `Store.begin_point` and its writer.
    """
    parent = _get_parent(store, machine_name, parent_point_id)
    machine_id = parent.machine_id if parent else _machine_id_for(store, machine_name)
    with ExitStack() as stack:
        images = [stack.enter_context(RawFile(path)) for path in image_paths]
        writer = stack.enter_context(
            store.begin_point(
                machine_id,
                machine_name,
                new_point_id(),
                parent_point_id,
                taken_at=datetime.now(UTC),
            )
        )
        tally = _Tally(sum(image.capacity_bytes for image in images), progress)
        keys = [
            _import_disk(writer, number, image, parent, tally)
            for number, image in enumerate(images)
        ]
        return writer.commit(
            _description(machine_name, images, keys, parent),
            _CONSISTENCY,
            parent.owner_core_id if parent else "",
            parent.owner_core_name if parent else "",
            parent.ownership_epoch if parent else 0,
        )


def new_point_id() -> str:
    return str(uuid.uuid4())


def new_cid() -> str:
    """Return a random content id; never one of the reserved values."""
    return f"{secrets.randbelow(0xFFFFFFFD) + 1:08x}"


class _Tally:
    """Adds up the progress of several disks."""

    def __init__(self, total_bytes: int, progress: Progress | None) -> None:
        self._total_bytes = total_bytes
        self._progress = progress
        self.before_bytes = 0

    def tell(self, done_bytes: int, _: int) -> None:
        if self._progress is not None:
            self._progress(self.before_bytes + done_bytes, self._total_bytes)


def _import_disk(
    writer: PointWriter, number: int, image: RawFile, parent: Manifest | None, tally: _Tally
) -> str:
    """Write the disk to the point; return its key."""
    entry = next((disk for disk in parent.disks if disk.number == number), None) if parent else None
    key = entry.key if entry else f"disk{number}"
    if parent and entry is None and parent.find_disk_by_key(key):
        key = f"disk{number}-{new_cid()}"
    has_parent = entry is not None and entry.capacity_bytes <= image.capacity_bytes
    hints = {disk.key: disk.file_hint for disk in writer.parent_disks()}
    cid = new_cid()
    writer.begin_disk(number, key, image.capacity_bytes, cid, has_parent)
    stream = StreamWriter(
        lambda data: writer.write(number, data),
        image.capacity_bytes,
        cid,
        parent_cid=entry.cid if entry and has_parent else None,
        parent_file_hint=hints[key] if has_parent else None,
        extent_name=f"disk{number}.vmdk",
    )
    stream_disk(
        image.fd,
        image.capacity_bytes,
        stream,
        lambda first, digests: writer.put_digests(number, first, digests),
        (lambda first, count: writer.parent_digests(number, first, count)) if has_parent else None,
        tally.tell,
    )
    stream.finish()
    writer.finish_disk(number, stream.length_bytes, writer.digest_hex(number))
    tally.before_bytes += image.capacity_bytes
    return key


def _get_parent(store: Store, machine_name: str, parent_point_id: str | None) -> Manifest | None:
    if parent_point_id is None:
        return None
    machine_id = store.find_machine_of(parent_point_id)
    if machine_id is None:
        raise PointMissing(f"The store {store.root} holds no recovery point {parent_point_id}")
    parent = store.get_point(machine_id, parent_point_id)
    if parent.machine_name != machine_name:
        raise ParentUnfit(
            f"Recovery point {parent_point_id} belongs to machine {parent.machine_name!r}, not"
            f" {machine_name!r}; name that machine, or choose another parent"
        )
    return parent


def _machine_id_for(store: Store, machine_name: str) -> str:
    """Return the id of the machine with that name, or a new one."""
    found = store.machine_ids_named(machine_name)
    if len(found) > 1:
        raise ParentUnfit(
            f"The store holds {len(found)} machines named {machine_name!r}; choose one by --parent"
        )
    return found[0] if found else str(uuid.uuid4())


def _description(
    machine_name: str, images: Sequence[RawFile], keys: Sequence[str], parent: Manifest | None
) -> dict[str, Any]:
    """Return the parent's description of the machine with these disks."""
    known: dict[str, Any] = dict(parent.description) if parent else {"hostname": machine_name}
    known["disks"] = [
        {
            "number": number,
            "key": key,
            "device": str(image.path.absolute()),
            "capacity_bytes": image.capacity_bytes,
            "is_boot": number == 0,
        }
        for number, (image, key) in enumerate(zip(images, keys, strict=True))
    ]
    return known
