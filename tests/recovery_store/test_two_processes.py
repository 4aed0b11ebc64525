"""Several processes on one store: writers of one point exclude each other, others do not."""

import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from recovery_store.errors import PointInUse, StoreBusy
from recovery_store.folders import WriterLock, is_being_written, machine_lock
from recovery_store.store import Store
from tests.recovery_store.disks import (
    MACHINE_ID,
    MIB,
    add_point,
    begin,
    commit,
    send_disk,
    write_raw,
)

POINT_ID = "33333333-2222-4333-8444-555555555555"

_HOLD = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from recovery_store.store import Store
store = Store(Path(sys.argv[1]), reserve_bytes=0)
with store.begin_point(sys.argv[2], "web-01", sys.argv[3], taken_at=datetime.now(UTC)):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_cannot_write_the_same_point(store: Store) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, store.root, MACHINE_ID, POINT_ID],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy, match=f'"process": {holder.pid}'):
            begin(store, point_id=POINT_ID)
        assert store.check().leftovers == ()
        add_point(store, {0: 1})  # another point of the same machine is no matter
        holder.communicate("", timeout=30)
    with begin(store, point_id=POINT_ID) as writer:
        send_disk(writer, 0, {0: 1}, 4 * MIB)
        commit(writer)
    assert len(store.points(MACHINE_ID)) == 2


def test_many_imports_at_once_all_arrive(store: Store, tmp_path: Path) -> None:
    image = write_raw(tmp_path / "disk.raw", {0: 1, 30: 2}, 4 * MIB)
    command = [sys.executable, "-m", "recovery_store", "import", store.root, "--machine"]
    processes = [
        subprocess.Popen([*command, f"machine-{number}", image], stdout=subprocess.DEVNULL)
        for number in range(4)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert len(store.check().good_points) == 4
    assert len(store.machine_ids()) == 4


def test_children_of_one_parent_written_at_once_all_arrive(store: Store) -> None:
    base = add_point(store, {0: 1})
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            add_point(store, {number: number}, base)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(store.check().good_points) == 7


def test_a_lock_taken_on_a_removed_name_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder removes the name between the next one's open and lock."""
    holder = WriterLock(tmp_path, "x")
    flock = fcntl.flock

    def flock_late(fd: int, operation: int) -> None:
        monkeypatch.undo()
        holder.release()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with WriterLock(tmp_path, "x"):
        assert is_being_written(tmp_path, "x")
        with pytest.raises(StoreBusy):
            WriterLock(tmp_path, "x")
    assert not is_being_written(tmp_path, "x")


def test_a_point_whose_child_is_committed_at_the_last_moment_is_not_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = add_point(store, {0: 1})
    flock = fcntl.flock
    with begin(store, base) as writer:
        send_disk(writer, 0, {1: 2}, 4 * MIB, has_parent=True)

        def flock_late(fd: int, operation: int) -> None:
            monkeypatch.undo()
            commit(writer)
            flock(fd, operation)

        monkeypatch.setattr(fcntl, "flock", flock_late)
        with pytest.raises(PointInUse, match=writer.point_id):
            store.delete_point(MACHINE_ID, base.point_id)
    assert len(store.check().good_points) == 2


def test_a_machine_locked_for_too_long_is_named(store: Store) -> None:
    add_point(store, {0: 1})
    folder = store.root / "machines" / MACHINE_ID
    with (
        machine_lock(folder),
        pytest.raises(StoreBusy, match="has been locked"),
        machine_lock(folder, timeout_seconds=0.1),
    ):
        pass
    with machine_lock(folder, timeout_seconds=0.1):
        pass
