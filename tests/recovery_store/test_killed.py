"""A process killed at any moment loses at most its unfinished point."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recovery_store.manifest import Manifest
from recovery_store.store import Store
from tests.recovery_store.disks import MACHINE_ID, MIB, add_chain, begin, import_raw, write_raw

_CHANGING_CALLS = (
    "write",
    "pwrite",
    "fsync",
    "ftruncate",
    "unlink",
    "rename",
    "mkdir",
    "rmdir",
    "open",
)


def import_until(step: int, store: Store, image: Path, parent: Manifest) -> int:
    """Import an incremental in a process that is killed at its n-th call to the file system.

    Returns the exit code, as `subprocess` has it.
    """
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            die_at(step)
            import_raw(store, [image], parent)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_at(step: int) -> None:
    """Have this process killed at its n-th call that changes the file system."""
    left = step

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in _CHANGING_CALLS:
        setattr(os, name, dying(getattr(os, name)))


def test_dying_at_each_change_of_the_file_system_leaves_a_sound_store(
    store: Store, tmp_path: Path
) -> None:
    image = write_raw(tmp_path / "disk.raw", {0: 1, 600: 2}, 40 * MIB)
    base = import_raw(store, [image])
    write_raw(image, {0: 3, 700: 4}, 40 * MIB)
    steps = 0
    while True:
        steps += 1
        code = import_until(steps, store, image, base)
        points = store.points(base.machine_id)
        assert store.check().is_good, f"killed at step {steps}"
        if len(points) == 2:
            # The point came to be; whether its maker lived to say so does not matter.
            assert code in (0, -signal.SIGKILL)
            store.delete_point(base.machine_id, points[1].point_id)
        else:
            assert code == -signal.SIGKILL
        store.clean(store.check())
        assert store.check().leftovers == ()
        if code == 0:
            break
    assert steps > 20
    assert import_raw(store, [image], base).parent_point_id == base.point_id
    unfinished = store.root / "machines" / base.machine_id / "unfinished"
    assert [path for path in unfinished.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_from_outside_at_any_time_leaves_a_sound_store(
    store: Store, tmp_path: Path, seed: int
) -> None:
    image = write_raw(tmp_path / "disk.raw", {number: number for number in range(600)}, 40 * MIB)
    process = subprocess.Popen(
        [sys.executable, "-m", "recovery_store", "import", store.root, "--machine", "m", image],
        stdout=subprocess.DEVNULL,
    )
    time.sleep(random.Random(seed).uniform(0.05, 0.6))
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert store.check().is_good
    import_raw(store, [image])
    assert store.check().is_good


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


def test_a_deletion_killed_half_way_leaves_no_half_point(store: Store, tmp_path: Path) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    folder = store.get_folder(MACHINE_ID, delta.point_id)
    folder.rename(store.root / "machines" / MACHINE_ID / "unfinished" / f"gone-{delta.point_id}")
    report = store.check()
    assert report.is_good
    assert store.points(MACHINE_ID) == [base]
    assert len(store.clean(report)) == 1
