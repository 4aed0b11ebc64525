"""A process killed at any moment loses at most its unfinished point."""

import os
import signal
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from recovery_store.importing import import_images
from recovery_store.store import Store
from tests.recovery_store.disks import (
    MACHINE_ID,
    MIB,
    add_chain,
    add_point,
    begin,
    import_raw,
    write_raw,
)
from tests.recovery_store.dying import kill_at_progress, killed_at


def test_an_import_killed_at_each_change_of_the_file_system_leaves_a_sound_store(
    store: Store, tmp_path: Path
) -> None:
    image = write_raw(tmp_path / "disk.raw", {0: 1, 600: 2}, 40 * MIB)
    base = import_raw(store, [image])
    write_raw(image, {0: 3, 700: 4}, 40 * MIB)
    unfinished = store.root / "machines" / base.machine_id / "unfinished"
    begun = half = whole = 0
    for step in count(1):
        was_killed = killed_at(step, lambda: import_raw(store, [image], base))
        report = store.check()
        assert report.is_good, f"killed at step {step}"
        begun += bool(report.leftovers)
        half += any(path.stat().st_size for path in unfinished.rglob("*.vmdk"))
        points = store.points(base.machine_id)
        if len(points) == 2:
            # The point came to be; whether its maker lived to say so does not matter.
            whole += was_killed
            store.delete_point(base.machine_id, points[1].point_id)
        store.clean(store.check())
        assert store.check().leftovers == ()
        if not was_killed:
            break
    assert step > begun > half > 5
    assert whole
    assert import_raw(store, [image], base).parent_point_id == base.point_id
    assert [path for path in unfinished.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("done_bytes", [4 * MIB, 12 * MIB])
def test_an_import_killed_while_it_copies_leaves_a_sound_store(
    store: Store, tmp_path: Path, done_bytes: int
) -> None:
    image = tmp_path / "noise.raw"
    image.write_bytes(os.urandom(12 * MIB))
    kill_at_progress(
        done_bytes, lambda progress: import_images(store, "m", [image], None, progress)
    )
    report = store.check()
    assert report.is_good
    assert report.good_points == ()
    (leftover,) = report.leftovers
    assert (leftover / "disk0.vmdk").stat().st_size
    point = import_raw(store, [image])
    assert store.check().good_points == (point,)


def test_a_point_begun_again_under_its_id_starts_afresh(store: Store) -> None:
    point_id = "33333333-2222-4333-8444-555555555555"
    pid = os.fork()
    if pid == 0:
        writer = begin(store, point_id=point_id)
        writer.begin_disk(0, "serial-0", 4 * MIB, "12345678", False)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    folder = store.root / "machines" / MACHINE_ID / "unfinished" / point_id
    assert (folder / "disk0.vmdk").exists()
    assert store.check().leftovers == (folder,)
    with begin(store, point_id=point_id):
        assert list(folder.iterdir()) == []
    assert not folder.exists()


def test_a_writer_that_was_killed_holds_its_parent_no_longer(store: Store) -> None:
    (base,) = add_chain(store, {0: 1})
    pid = os.fork()
    if pid == 0:
        begin(store, base)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    (lock,) = store.root.glob("machines/*/unfinished/*.lock")
    assert base.point_id in lock.read_text()
    store.delete_point(MACHINE_ID, base.point_id)
    assert store.points(MACHINE_ID) == []


def test_a_deletion_killed_at_each_change_of_the_file_system_leaves_no_half_point(
    store: Store,
) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    gone = half = 0
    for step in count(1):
        was_killed = killed_at(step, partial(store.delete_point, MACHINE_ID, delta.point_id))
        report = store.check()
        assert report.is_good, f"killed at step {step}"
        assert report.good_points in ((base, delta), (base,))
        if not was_killed:
            break
        if len(report.good_points) == 1:
            gone += 1
            half += not (report.leftovers[0] / "manifest.json").exists()
            store.clean(report)
            delta = add_point(store, {1: 2}, base)
    assert step > gone > half > 0
    assert report.good_points == (base,)
    assert report.leftovers == ()
