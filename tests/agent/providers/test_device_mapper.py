"""The provider `device_mapper` against a device mapper that is made up: order, faults, remains."""

import errno
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.errors import SnapshotFailed, ViewInvalid
from agent.providers import CRASH, FILE_SYSTEM
from agent.providers.cow_memory import CowDevice
from agent.providers.device_mapper import DeviceMapperProvider, Kernel
from agent.providers.hold import Hold
from agent.providers.watch import Watch
from tests.agent.made_up_device_mapper import FIRST_MINOR, MadeUpDeviceMapper
from tests.agent.made_up_machine import MadeUpMachine
from tests.agent.test_fsfreeze import Mounted, is_frozen, run
from tests.places.agent import MIB
from tests.places.waiting import wait_until

# Memory is locked, which takes a second or more in a process as large as that of all tests.
pytestmark = pytest.mark.slow

SECTORS = 2 * MIB // 512
CHUNK_BYTES = 32 * 1024
LAYERS = ("understudy-sda", "understudy-sdb")
VIEWS = ("understudy-view-sda", "understudy-view-sdb")
WATCHED = ("understudy-view-watched-sda", "understudy-view-watched-sdb")


class FileCow(CowDevice):
    """A file in place of memory."""

    def __init__(self, limit_bytes: int, capacity_bytes: int, layered: "Layered") -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 2 * capacity_bytes
        self._file = layered.dev_root / f"zram{len(layered.cows)}"
        self.is_released = False
        layered.cows.append(self)
        self.write([])

    @property
    def numbers(self) -> str:
        return f"252:{self._file.name.removeprefix('zram')}"

    @property
    def path(self) -> Path:
        return self._file

    def release(self) -> None:
        self.is_released = True

    def write(self, old_chunks: list[int], is_valid: bool = True) -> None:
        """List what was written since, as the kernel does."""
        content = bytearray(self.size_bytes)
        struct.pack_into("<4I", content, 0, 0x70416E53, int(is_valid), 1, 64)
        for number, old_chunk in enumerate(old_chunks):
            struct.pack_into("<2Q", content, CHUNK_BYTES + 16 * number, old_chunk, 2 + number)
        self._file.write_bytes(content)


class Layered:
    """A machine with two disks under their layers."""

    def __init__(self, folder: Path) -> None:
        self.machine = MadeUpMachine(folder / "sys")
        self.dev_root = folder / "dev"
        self.dev_root.mkdir()
        self.mapper = MadeUpDeviceMapper(folder)
        self.cows: list[FileCow] = []
        self.add_disk("sda", 0, "8:0")
        self.add_disk("sdb", 1, "8:16")
        for module in ("module/dm_snapshot", "class/zram-control"):
            (self.machine.root / module).mkdir(parents=True)
        self.proc_root = folder / "proc"
        (self.proc_root / "self").mkdir(parents=True)
        # Never this computer's own mounts: they would be frozen.
        (self.proc_root / "self/mountinfo").touch()
        self.set_free_memory(256 * MIB)
        self.provider = self.make_provider()

    def add_disk(self, name: str, number: int, numbers: str) -> None:
        self.machine.add_disk(name, number, SECTORS)
        (self.machine.root / f"block/{name}/dev").write_text(numbers)
        self.machine.add_layer(name, f"dm-{number}", f"understudy-{name}", SECTORS)
        (self.dev_root / f"dm-{number}").write_bytes(bytes(4096))
        self.mapper.add(f"understudy-{name}", (0, SECTORS, "linear", f"{numbers} 0"))

    def make_provider(self, cow_bytes: int | None = None) -> DeviceMapperProvider:
        kernel = Kernel(
            self.machine.root,
            self.dev_root,
            self.proc_root,
            self.mapper.open,
            lambda limit_bytes, capacity_bytes: FileCow(limit_bytes, capacity_bytes, self),
        )
        return DeviceMapperProvider(cow_bytes, kernel=kernel)

    def set_free_memory(self, free_bytes: int) -> None:
        (self.proc_root / "meminfo").write_text(
            f"MemTotal: 4194304 kB\nMemAvailable: {free_bytes // 1024} kB\n"
        )

    def watch(self) -> Watch:
        """Take a point that is watched."""
        watch = Watch(600)
        with self.provider.open_view(watch=watch):
            pass
        assert watch.is_active
        return watch

    def assert_as_before(self) -> None:
        assert set(self.mapper.devices) == set(LAYERS)
        for name, numbers in zip(LAYERS, ("8:0", "8:16"), strict=True):
            device = self.mapper.devices[name]
            assert device.live == [(0, SECTORS, "linear", f"{numbers} 0")]
            assert device.loaded is None
            assert not device.is_suspended
        assert all(cow.is_released for cow in self.cows)


@pytest.fixture
def layered(tmp_path: Path) -> Iterator[Layered]:
    layered = Layered(tmp_path)
    yield layered
    assert not any(device.is_suspended for device in layered.mapper.devices.values())


def test_all_views_begin_while_all_disks_are_suspended(layered: Layered) -> None:
    with layered.provider.open_view() as view:
        devices = layered.mapper.devices
        assert view.consistency == FILE_SYSTEM
        assert [disk.path.name for disk in view.disks] == [
            f"dm-{FIRST_MINOR + 2}",
            f"dm-{FIRST_MINOR + 3}",
        ]
        assert {disk.capacity_bytes for disk in view.disks} == {2 * MIB}
        assert [disk.changed for disk in view.disks] == [None, None]
        for name, origin, cow in zip(VIEWS, ("8:0", "8:16"), ("252:0", "252:1"), strict=True):
            assert devices[name].live == [(0, SECTORS, "snapshot", f"{origin} {cow} N 64")]
            assert devices[name].suspended_at_begin == set(LAYERS)
        for name, origin in zip(LAYERS, ("8:0", "8:16"), strict=True):
            assert devices[name].live == [(0, SECTORS, "snapshot-origin", origin)]
            assert not devices[name].is_suspended
        view.check()

    layered.assert_as_before()


def test_nothing_is_made_or_loaded_while_the_disks_are_suspended(layered: Layered) -> None:
    """The memory for it might have to come from a disk that is suspended."""
    with layered.provider.open_view():
        assert layered.mapper.journal()[-6:] == [
            *(f"suspend {name}" for name in LAYERS),
            *(f"resume {name}" for name in VIEWS),
            *(f"resume {name}" for name in LAYERS),
        ]


def test_file_systems_are_frozen_when_the_views_begin(layered: Layered) -> None:
    mounted = Mounted(layered.proc_root / "self")
    run("mount", mounted.device, mounted.path)
    try:
        begun: list[bool] = []

        def see(verb: str, name: str) -> None:
            if verb == "resume" and name in VIEWS:
                begun.append(is_frozen(mounted))

        layered.mapper.on_call = see
        with layered.provider.open_view() as view:
            assert begun == [True, True]
            assert view.consistency == FILE_SYSTEM
            assert not is_frozen(mounted)
    finally:
        mounted.close()


def test_a_file_system_that_cannot_be_opened_makes_the_point_crash_consistent(
    layered: Layered, tmp_path: Path
) -> None:
    (layered.proc_root / "self/mountinfo").write_text(
        f"22 1 8:1 / {tmp_path}/gone rw - ext4 /dev/sda1 rw"
    )
    with layered.provider.open_view() as view:
        assert view.consistency == CRASH


def test_the_limit_is_shared_among_the_disks(layered: Layered) -> None:
    with layered.make_provider(cow_bytes=64 * MIB).open_view():
        assert [cow.limit_bytes for cow in layered.cows] == [32 * MIB, 32 * MIB]


def test_without_a_limit_half_of_the_free_memory_is_taken(layered: Layered) -> None:
    with layered.provider.open_view():
        assert [cow.limit_bytes for cow in layered.cows] == [64 * MIB, 64 * MIB]


def test_too_little_memory_fails_before_anything_is_suspended(layered: Layered) -> None:
    layered.set_free_memory(20 * MIB)

    with pytest.raises(SnapshotFailed, match="free memory"), layered.provider.open_view():
        pytest.fail("there is no view")

    assert not any(line.startswith("suspend") for line in layered.mapper.journal())
    layered.assert_as_before()


def test_a_disk_without_its_layer_fails_the_point(layered: Layered) -> None:
    layered.machine.add_disk("sdc", 2, SECTORS)
    (layered.dev_root / "sdc").write_bytes(bytes(4096))

    with (
        pytest.raises(SnapshotFailed, match="missing on sdc: restart"),
        layered.provider.open_view(),
    ):
        pytest.fail("there is no view")


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("create", VIEWS[1]),
        ("load", VIEWS[0]),
        ("load", LAYERS[1]),
        ("suspend", LAYERS[0]),
        ("suspend", LAYERS[1]),
        ("resume", VIEWS[1]),
    ],
)
def test_a_fault_of_the_kernel_leaves_the_disks_as_they_were(
    layered: Layered, verb: str, name: str
) -> None:
    layered.mapper.failures[(verb, name)] = [errno.ENOMEM]

    with (
        pytest.raises(SnapshotFailed, match="Cannot allocate memory"),
        layered.provider.open_view(),
    ):
        pytest.fail("there is no view")

    layered.assert_as_before()


@pytest.mark.parametrize("name", LAYERS)
def test_a_disk_that_could_not_be_resumed_is_resumed_by_the_release(
    layered: Layered, name: str
) -> None:
    def fail_once(verb: str, called: str) -> None:
        if (verb, called) == ("resume", name) and layered.mapper.devices[name].is_suspended:
            layered.mapper.failures[(verb, called)] = [errno.ENOMEM]
            layered.mapper.on_call = lambda _verb, _name: None

    layered.mapper.on_call = fail_once

    with pytest.raises(SnapshotFailed, match="Switching the disks"), layered.provider.open_view():
        pytest.fail("there is no view")

    layered.assert_as_before()


def test_a_view_that_udev_holds_open_is_removed_a_little_later(layered: Layered) -> None:
    layered.mapper.failures[("remove", VIEWS[0])] = [errno.EBUSY, errno.EBUSY]

    with layered.provider.open_view():
        pass

    layered.assert_as_before()


def test_a_view_whose_memory_is_full_is_not_valid(layered: Layered) -> None:
    with layered.provider.open_view() as view:
        view.check()
        layered.mapper.devices[VIEWS[1]].status = "Invalid"
        with pytest.raises(ViewInvalid, match=r"disk 1 \(/dev/sdb\) is lost \(invalid\)"):
            view.check()

    layered.assert_as_before()


def test_a_reader_that_fails_releases_the_view(layered: Layered) -> None:
    with pytest.raises(ZeroDivisionError), layered.provider.open_view():
        raise ZeroDivisionError

    layered.assert_as_before()


def test_a_watchdog_resumes_the_disks_when_the_agent_hangs(layered: Layered) -> None:
    """A hang while they are suspended: the watchdog is a process of its own, and acts."""

    def hang(verb: str, name: str) -> None:
        if (verb, name) == ("resume", VIEWS[0]) and not hanging:
            hanging.append(name)
            wait_until(
                lambda: resumed() == [1, 1],
                "the watchdog to resume the disks",
            )

    def resumed() -> list[int]:
        journal = layered.mapper.journal()
        since = journal[journal.index(f"create {VIEWS[0]}") :]
        return [since.count(f"resume {name}") for name in LAYERS]

    hanging: list[str] = []
    layered.mapper.on_call = hang
    hold = Hold(1, lambda: None)

    with layered.provider.open_view(hold):
        assert hanging
    # It had to act, so the file systems did not stay frozen.
    assert not hold.release()
    layered.assert_as_before()


def test_a_hold_outlasts_the_view(layered: Layered) -> None:
    ended: list[bool] = []
    hold = Hold(60, lambda: ended.append(True))

    with layered.provider.open_view(hold):
        assert hold.has_taken_over

    layered.assert_as_before()
    assert not ended
    assert hold.release()
    assert ended


def test_a_watched_view_stays_and_its_list_names_what_the_next_has_to_read(
    layered: Layered,
) -> None:
    watch = layered.watch()
    for name, cow in zip(WATCHED, ("252:0", "252:1"), strict=True):
        ((_, _, _, parameters),) = layered.mapper.devices[name].live
        assert parameters.endswith(f" {cow} P 64")
    layered.cows[0].write([4, 5, 40])

    with layered.provider.open_view(since=watch) as view:
        assert [disk.changed for disk in view.disks] == [[(2, 1), (20, 1)], []]
        # The origins stay as they are; only the new views are made beside the old ones.
        assert set(layered.mapper.devices) == {*LAYERS, *VIEWS, *WATCHED}

    layered.assert_as_before()


@pytest.mark.parametrize(
    ("status", "is_valid", "reason"),
    [("Invalid", True, "more was written than its memory can hold"), ("1/2 1", False, "begins")],
)
def test_a_list_that_is_lost_has_whole_disks_read(
    layered: Layered, status: str, is_valid: bool, reason: str
) -> None:
    watch = layered.watch()
    layered.cows[1].write([4], is_valid)
    layered.mapper.devices[WATCHED[1]].status = status

    with layered.provider.open_view(since=watch) as view:
        assert [disk.changed for disk in view.disks] == [None, None]
        assert reason in watch.ended_because

    layered.assert_as_before()


def test_other_disks_than_those_watched_have_whole_disks_read(layered: Layered) -> None:
    watch = layered.watch()
    (layered.dev_root / "dm-1").write_bytes(bytes(440) + b"\1\2\3\4" + bytes(66) + b"\x55\xaa")

    with layered.provider.open_view(since=watch) as view:
        assert [disk.changed for disk in view.disks] == [None, None]
        assert "disks" in watch.ended_because
        assert set(layered.mapper.devices) == {*LAYERS, *VIEWS}

    layered.assert_as_before()


def test_a_watch_notices_what_the_kernel_has_lost(layered: Layered) -> None:
    standing = layered.watch().take()
    assert standing is not None
    assert standing.find_loss() == ""

    layered.mapper.devices[WATCHED[1]].status = "Overflow"
    assert standing.find_loss() == "more was written than its memory can hold (overflow)"
    removed = layered.mapper.devices.pop(WATCHED[0])
    assert "No such device" in standing.find_loss()

    layered.mapper.devices[WATCHED[0]] = removed
    standing.release()
    layered.assert_as_before()


def test_what_cannot_be_released_is_said_after_all_else_is_released(layered: Layered) -> None:
    def open_view() -> None:
        with layered.provider.open_view():
            layered.mapper.failures[("load", LAYERS[0])] = [errno.EIO]

    with pytest.raises(SnapshotFailed, match="Releasing the view of the disks"):
        open_view()

    assert VIEWS[1] not in layered.mapper.devices
    assert all(cow.is_released for cow in layered.cows)
    layered.provider.clean_up()
    assert set(layered.mapper.devices) == set(LAYERS)


@pytest.mark.parametrize("name", [VIEWS[0], WATCHED[0]])
def test_what_a_killed_agent_has_left_is_released_at_the_next_start(
    layered: Layered, name: str
) -> None:
    root = layered.machine.root
    (root / "block/zram7").mkdir()
    (root / "dev/block").mkdir(parents=True)
    (root / "dev/block/252:7").symlink_to(root / "block/zram7")
    layered.mapper.add(name, (0, SECTORS, "snapshot", "8:0 252:7 N 64"))
    layered.mapper.devices[LAYERS[0]].live = [(0, SECTORS, "snapshot-origin", "8:0")]
    layered.mapper.devices[LAYERS[1]].loaded = [(0, SECTORS, "snapshot-origin", "8:16")]

    layered.provider.clean_up()

    layered.assert_as_before()
    assert (root / "block/zram7/reset").read_text() == "1"
    assert (root / "class/zram-control/hot_remove").read_text() == "7"


def test_remains_that_cannot_be_released_are_said(layered: Layered) -> None:
    layered.mapper.failures[("clear", LAYERS[0])] = [errno.EIO]

    with pytest.raises(SnapshotFailed, match="what an earlier view left behind"):
        layered.provider.clean_up()


def test_a_table_that_is_only_loaded_is_told_from_the_live_one(layered: Layered) -> None:
    device = layered.mapper.add("other", (0, 8, "linear", "8:0 0"), (8, 8, "linear", "8:16 0"))
    with closing(layered.mapper.open()) as control:
        assert control.loaded_table("other") == []
        device.loaded = [(0, 16, "snapshot-origin", "8:0")]
        assert control.loaded_table("other") == [(0, 16, "snapshot-origin", "8:0")]
        assert control.table("other") == [(0, 8, "linear", "8:0 0"), (8, 8, "linear", "8:16 0")]
        assert control.exists("other")
        assert not control.exists("another")
