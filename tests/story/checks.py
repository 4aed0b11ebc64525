"""What must be true of the two sites at the turns of a story."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import expect

from agent.settings_disk import SETTINGS_DISK_BYTES
from lab.stop import hosted_guests
from tests.places.waiting import wait_until
from tests.story.console import Console
from tests.story.failback_figures import Figures, read_figures
from tests.story.failing_back import fail_back, wait_until_failed_back
from tests.story.journal import DISK_NUMBER, check_goes_on, journal_of_point, read_journal
from tests.story.two_sites import Lab

QUOTE_TOLERANCE = 0.2


def fail_back_as_quoted(target: Console, machines: Sequence[str]) -> dict[str, Figures]:
    """Fail machines back; what was sent is what the dialog had quoted. Return what was measured."""
    url = fail_back(target, machines)
    wait_until_failed_back(target, machines)
    figures = read_figures(target.lab, url)
    for name, one in figures.items():
        sys.stdout.write(f"{name}: {one.describe()}\n")
        assert one.is_history_whole, f"{name} began a new history at its source"
        assert one.sent_bytes == pytest.approx(one.quoted_send_bytes, rel=QUOTE_TOLERANCE), name
    return figures


def check_that_the_old_core_knows(headquarters: Console, unsent_point_id: str) -> None:
    page = headquarters.page
    headquarters.open_replication()
    for name in headquarters.lab.machines:
        headquarters.reload_until(headquarters.row(name).get_by_text("owned by DR site"))
    headquarters.open_machine("db-01")
    headquarters.reload_until(
        page.locator(f"#point-{unsent_point_id}").get_by_text("Not on the main line")
    )
    expect(page.get_by_text("Some points are not on the main line")).to_be_visible()
    expect(page.get_by_text("DR site since").first).to_be_visible()


def check_that_it_stayed_behind(lab: Lab, point_id: str) -> None:
    held = {
        site: {point["point_id"] for point in lab.points(site, "db-01")}
        for site in ("source", "target")
    }
    assert point_id in held["source"]
    assert point_id not in held["target"]


def check_the_journal(lab: Lab, figures: Figures, earlier: list[str], tmp_path: Path) -> list[str]:
    """Nothing that was written before the freeze is missing, and nothing was written after it."""
    frozen = journal_of_point(lab, "target", figures.final_point_id, tmp_path)
    check_goes_on(earlier, frozen)
    vm_disk = vm_folders(lab)["db-01"] / f"disk-{DISK_NUMBER}.qcow2"
    assert read_journal(vm_disk) == frozen
    newest = lab.newest_point_id("source", "db-01")
    check_goes_on(frozen, journal_of_point(lab, "source", newest, tmp_path))
    return frozen


def check_that_the_settings_disk_was_read_and_is_gone(lab: Lab, machine: str) -> None:
    """Its capacity is smaller than that of any disk of the lab's machines."""
    folder = vm_folders(lab)[machine]
    assert "settings disk read" in (folder / "console.log").read_text(errors="replace")

    def is_gone() -> bool:
        disks = json.loads((folder / "vm.json").read_text())["disks"]
        overlays = list(folder.glob("disk-*.qcow2"))
        return len(overlays) == len(disks) and all(
            disk["capacity_bytes"] > SETTINGS_DISK_BYTES for disk in disks
        )

    wait_until(is_gone, "the settings disk to be unplugged", 60)


def vm_folders(lab: Lab) -> dict[str, Path]:
    """Return where the hypervisor of the DR site keeps its VMs' disks, by name."""
    folders = [guest.folder for guest in hosted_guests(lab.sites.vcenter)]
    return {json.loads((folder / "record.json").read_text())["name"]: folder for folder in folders}
