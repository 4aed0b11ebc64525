"""Setting up installs what is missing, and a second time does nothing."""

from pathlib import Path

from lab.guest.image import ensure_images
from lab.setup import missing_packages, set_up, wanted_packages
from lab.vcsim.process import ensure_binary
from rescue_medium.medium import ensure_medium


def test_only_what_is_not_installed_is_missing() -> None:
    assert missing_packages(["dpkg", "no-such-package-anywhere"]) == ["no-such-package-anywhere"]


def test_the_list_holds_names_only() -> None:
    wanted = wanted_packages()
    assert "qemu-system-x86" in wanted
    assert all(name and " " not in name and "#" not in name for name in wanted)
    assert len(set(wanted)) == len(wanted)


def test_a_second_set_up_builds_nothing() -> None:
    set_up()
    before = built_files()
    set_up()
    assert built_files() == before


def built_files() -> dict[Path, tuple[int, int]]:
    """All that the set-up builds, by what differs once it is built again."""
    disks = [disk for image in ensure_images().values() for disk in image.disks]
    found = {path: path.stat() for path in (*disks, ensure_binary(), ensure_medium())}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}
