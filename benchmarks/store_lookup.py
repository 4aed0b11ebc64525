"""What a failback does in the store while its machine is frozen, in a small and a large store."""

import statistics
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from blake3 import blake3

from benchmarks.figures import Figure, at_most
from recovery_store.importing import new_cid
from recovery_store.manifest import MANIFEST_FILE, Manifest
from recovery_store.store import Store
from recovery_store.vmdk.deflate import deflate
from recovery_store.vmdk.imaging import grain_digest
from recovery_store.vmdk.layout import GRAIN_BYTES
from recovery_store.vmdk.writer import StreamWriter

POINTS = 20
OTHER_POINTS = 200_000
_OTHERS_PER_MACHINE = 100
_NAMES = 100
_RUNS = 15
_CAPACITY_BYTES = 1 << 30


def run(work: Path) -> list[Figure]:
    """Measure a final point and its lookups with 20 points in the store, and with 200,020."""
    store = Store(work / "store", reserve_bytes=0)
    machine_id = str(uuid.uuid4())
    newest = _add_chain(store, machine_id)
    small_ms = _freeze_ms(store, newest)
    _add_others(store, newest)
    large_ms = _freeze_ms(store, newest)
    return [
        at_most(
            f"Store work in a failback's freeze, {OTHER_POINTS + POINTS:,} points in the store",
            large_ms,
            f"{POINTS} points",
            small_ms,
            "ms",
            1.25,
        )
    ]


def _freeze_ms(store: Store, newest: Manifest) -> float:
    times_ms = []
    for _ in range(_RUNS):
        names = [str(uuid.uuid4()) for _ in range(_NAMES)]
        started = time.perf_counter()
        for point_id in names:
            assert store.find_point(newest.machine_id, point_id) is None
        store.points(newest.machine_id)
        store.chain(newest.machine_id, newest.point_id)
        final = _add_point(store, newest.machine_id, newest)
        assert store.find_point(newest.machine_id, final.point_id) == final
        times_ms.append((time.perf_counter() - started) * 1000)
        store.delete_point(newest.machine_id, final.point_id)
    return statistics.median(times_ms)


def _add_chain(store: Store, machine_id: str) -> Manifest:
    point = _add_point(store, machine_id, None)
    for _ in range(POINTS - 1):
        point = _add_point(store, machine_id, point)
    return point


def _add_point(store: Store, machine_id: str, parent: Manifest | None) -> Manifest:
    """Add a point with one changed grain."""
    now = datetime.now(UTC)
    parent_id = parent.point_id if parent else None
    with store.begin_point(
        machine_id, "bench", str(uuid.uuid4()), parent_id, taken_at=now
    ) as writer:
        below = writer.parent_disks()[0] if parent else None
        grain = (now.isoformat().encode() * GRAIN_BYTES)[:GRAIN_BYTES]
        parts: list[bytes] = []
        cid = new_cid()
        stream = StreamWriter(
            parts.append,
            _CAPACITY_BYTES,
            cid,
            below.cid if below else None,
            below.file_hint if below else None,
        )
        stream.grain(7, deflate(grain))
        stream.finish()
        file = b"".join(parts)
        writer.begin_disk(0, "disk", _CAPACITY_BYTES, cid, has_parent=parent is not None)
        writer.write(0, file)
        writer.put_digests(0, 7, grain_digest(grain))
        writer.finish_disk(0, len(file), blake3(file).hexdigest())
        return writer.commit({"hostname": "bench"}, "crash", "", "", 1)


def _add_others(store: Store, like: Manifest) -> None:
    """Add the manifests of other machines' points; nobody reads their disks."""
    for _ in range(OTHER_POINTS // _OTHERS_PER_MACHINE):
        machine_id = str(uuid.uuid4())
        points = store.root / "machines" / machine_id / "points"
        points.mkdir(parents=True)
        for number in range(_OTHERS_PER_MACHINE):
            point = replace(
                like,
                machine_id=machine_id,
                point_id=str(uuid.uuid4()),
                taken_at=like.taken_at - timedelta(minutes=number),
            ).sealed()
            folder = points / point.folder_name
            folder.mkdir()
            (folder / MANIFEST_FILE).write_bytes(point.to_bytes())
