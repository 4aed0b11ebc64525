"""Setting up installs what is missing, and a second time does nothing."""

from lab.guest.image import ensure_images
from lab.setup import missing_packages, set_up, wanted_packages


def test_only_what_is_not_installed_is_missing() -> None:
    assert missing_packages(["dpkg", "no-such-package-anywhere"]) == ["no-such-package-anywhere"]


def test_the_list_holds_names_only() -> None:
    wanted = wanted_packages()
    assert "qemu-system-x86" in wanted
    assert all(name and " " not in name and "#" not in name for name in wanted)
    assert len(set(wanted)) == len(wanted)


def test_a_second_set_up_changes_nothing() -> None:
    set_up()
    before = {
        image.name: [disk.stat().st_mtime_ns for disk in image.disks]
        for image in ensure_images().values()
    }
    set_up()
    after = {
        image.name: [disk.stat().st_mtime_ns for disk in image.disks]
        for image in ensure_images().values()
    }
    assert after == before
