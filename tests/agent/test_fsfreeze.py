"""`fsfreeze` on a real file system: it stays frozen while its disk is read, but never forever."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import SnapshotFailed
from agent.providers import CRASH, FROZEN_WHILE_READ
from agent.providers.freeze import OpenMounts
from agent.providers.fsfreeze import FsfreezeProvider
from agent.providers.hold import Hold
from tests.agent.made_up_machine import MadeUpMachine
from tests.places.agent import MIB, blank_disk
from tests.places.waiting import wait_until

MakeProvider = Callable[..., FsfreezeProvider]


def run(*words: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in words], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


class Mounted:
    """A file system of its own on a loop device, and a machine whose only disk that is."""

    def __init__(self, folder: Path) -> None:
        image = blank_disk(folder / "disk.raw", 16 * MIB)
        run("mkfs.ext4", "-q", image)
        self.device = Path(run("losetup", "--find", "--show", image))
        self.path = folder / "mounted"
        self.path.mkdir()
        self.machine = MadeUpMachine(folder / "sys")
        self.machine.add_disk("sda", target=0, sectors=16 * MIB // 512)
        self.dev_root = folder / "dev"
        self.dev_root.mkdir()
        (self.dev_root / "sda").symlink_to(self.device)
        # Never this computer's own mounts: they would be frozen.
        self.mountinfo = folder / "mountinfo"
        self.list_mounts(self.path)

    def list_mounts(self, *paths: Path) -> None:
        lines = [
            f"{20 + number} 1 7:{number} / {path} rw - ext4 {self.device} rw"
            for number, path in enumerate(paths)
        ]
        self.mountinfo.write_text("\n".join(lines))

    def provider(self, limit_seconds: int = 60) -> FsfreezeProvider:
        return FsfreezeProvider(
            limit_seconds,
            sys_root=self.machine.root,
            dev_root=self.dev_root,
            mountinfo=self.mountinfo,
        )

    def start_writing(self) -> subprocess.Popen[bytes]:
        """Begin to write a file, which takes until the file system is thawed."""
        script = f"echo later > {self.path}/later && sync -f {self.path}/later"
        return subprocess.Popen(["sh", "-c", script])

    def close(self) -> None:
        mounts = OpenMounts(self.mountinfo)
        mounts.open()
        mounts.thaw_all()
        mounts.close()
        run("umount", "-l", self.path)
        run("losetup", "--detach", self.device)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    mounted = Mounted(tmp_path)
    run("mount", mounted.device, mounted.path)
    yield mounted
    mounted.close()


def is_frozen(mounted: Mounted) -> bool:
    """Tell by whether it can be frozen: the kernel refuses a second freeze."""
    done = subprocess.run(["fsfreeze", "--freeze", str(mounted.path)], capture_output=True)
    if done.returncode == 0:
        run("fsfreeze", "--unfreeze", mounted.path)
    return done.returncode != 0


def test_it_stays_frozen_while_it_is_read_and_is_thawed_then(
    mounted: Mounted, tmp_path: Path
) -> None:
    # The kernel keeps what it reads here, and file systems write past that.
    mounted.device.read_bytes()
    (mounted.path / "before").write_text("written, and not synced")
    provider = mounted.provider()
    assert [disk.capacity_bytes for disk in provider.disks()] == [16 * MIB]

    with provider.open_view() as view:
        assert view.consistency == FROZEN_WHILE_READ
        assert is_frozen(mounted)
        writer = mounted.start_writing()
        time.sleep(0.5)
        copy = tmp_path / "copy.raw"
        (disk,) = view.disks
        copy.write_bytes(disk.path.read_bytes())
        view.check()
        assert writer.poll() is None

    assert writer.wait(60) == 0
    assert not is_frozen(mounted)
    # Clean, without a replay of its journal, and nothing in it that came later.
    run("e2fsck", "-fn", copy)
    assert run("debugfs", "-R", "cat /before", copy) == "written, and not synced"
    assert "later" not in run("debugfs", "-R", "ls", copy)


def test_it_is_thawed_when_reading_takes_longer_than_the_limit(mounted: Mounted) -> None:
    def read_for_long() -> None:
        with mounted.provider(limit_seconds=1).open_view():
            wait_until(lambda: not is_frozen(mounted), "the watchdog to thaw")

    with pytest.raises(SnapshotFailed, match="more than 1 seconds"):
        read_for_long()


def test_it_is_thawed_when_reading_fails(mounted: Mounted) -> None:
    with pytest.raises(ZeroDivisionError), mounted.provider().open_view():
        raise ZeroDivisionError
    assert not is_frozen(mounted)


def test_a_hold_takes_it_over_frozen(mounted: Mounted) -> None:
    hold = Hold(60, lambda: None)
    with mounted.provider().open_view(hold) as view:
        assert view.consistency == FROZEN_WHILE_READ
    assert is_frozen(mounted)
    assert hold.release()
    assert not is_frozen(mounted)


def test_what_cannot_be_opened_is_no_reason_to_fail_but_said(
    mounted: Mounted, tmp_path: Path
) -> None:
    mounted.list_mounts(tmp_path / "gone", mounted.path)
    with mounted.provider().open_view() as view:
        assert view.consistency == CRASH
        assert is_frozen(mounted)


def test_what_is_frozen_already_fails_the_point_and_thaws_the_rest(
    mounted: Mounted, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Mounted(folder)
    run("mount", other.device, other.path)
    try:
        run("fsfreeze", "--freeze", mounted.path)
        # The last mounted is frozen first.
        mounted.list_mounts(mounted.path, other.path)
        with (
            pytest.raises(SnapshotFailed, match=f"at {mounted.path}: Device or resource busy"),
            mounted.provider().open_view(),
        ):
            pytest.fail("there is no view")
        assert not is_frozen(other)
        mounts = OpenMounts(mounted.mountinfo)
        mounts.open()
        with pytest.raises(SnapshotFailed, match="Device or resource busy"):
            mounts.freeze()
        assert not is_frozen(other)
        mounts.close()
        run("fsfreeze", "--unfreeze", mounted.path)
    finally:
        other.close()
