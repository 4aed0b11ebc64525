"""Headquarters is lost, its machines run at the DR site, and go back; all of that twice.

The first time the lost core comes back, the second time a newly installed one takes its place. Both
tests are told of the same two sites, so they are in one file.
"""

import json
import re
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lab.stop import hosted_guests
from tests.story.conftest import FailedOver, OpenConsole
from tests.story.console import Console
from tests.story.failback_figures import Figures, read_figures
from tests.story.failing_back import (
    add_source_core,
    commit,
    fail_back,
    repair,
    roll_back,
    wait_until_failed_back,
)
from tests.story.failing_over import fail_over, lose_headquarters
from tests.story.journal import DISK_NUMBER, check_goes_on, journal_of_point, read_journal
from tests.story.two_sites import MACHINES, Lab

pytestmark = [pytest.mark.live, pytest.mark.guests, pytest.mark.browser, pytest.mark.slow]

QUOTE_TOLERANCE = 0.2


def test_the_machines_of_a_lost_site_run_at_the_dr_site(
    lab: Lab, failed_over: FailedOver, tmp_path: Path
) -> None:
    before = journal_of_point(lab, "target", failed_over.lost_point_ids["db-01"], tmp_path)
    after = journal_of_point(lab, "target", failed_over.forced_point_id, tmp_path)
    check_goes_on(before, after)
    lab.command("-m", "recovery_store", "check", lab.store("target"))


def test_failover_and_failback_twice_in_a_row(
    lab: Lab, failed_over: FailedOver, open_console: OpenConsole, tmp_path: Path
) -> None:
    target = failed_over.target
    at_the_dr_site = journal_of_point(lab, "target", failed_over.forced_point_id, tmp_path)

    # The lost core comes back, and learns that it owns the machines no longer.
    repair(lab, "kept")
    headquarters = open_console("source")
    _check_that_the_old_core_knows(headquarters, failed_over.unsent_point_id)
    headquarters.open_replication()
    headquarters.choose(headquarters.row("db-01"), "Resume")
    figures = _fail_back(target, MACHINES)
    at_the_freeze = _check_the_journal(lab, figures["db-01"], at_the_dr_site, tmp_path)
    for name in MACHINES:
        headquarters.wait_for_entry(name, "online")
    _check_that_it_stayed_behind(lab, failed_over.unsent_point_id)
    # One of them is run at the DR site again.
    roll_back(target, "web-01")
    commit(target, "db-01")
    target.wait_for_entry("web-01", "online")
    assert _vm_folders(lab) == {"web-01": _vm_folders(lab)["web-01"]}

    # Headquarters is lost again, for good this time: the other machine fails over anew.
    lose_headquarters(lab)
    fail_over(target, ["db-01"])
    at_the_dr_site = journal_of_point(lab, "target", target.force_a_snapshot("db-01"), tmp_path)
    check_goes_on(at_the_freeze, at_the_dr_site)
    repair(lab, "new")
    add_source_core(target)
    headquarters = open_console("source")
    figures = _fail_back(target, MACHINES)
    _check_the_journal(lab, figures["db-01"], at_the_dr_site, tmp_path)
    for name in MACHINES:
        headquarters.wait_for_entry(name, "online")
        commit(target, name)
    assert _vm_folders(lab) == {}
    for site in ("source", "target"):
        lab.command("-m", "recovery_store", "check", lab.store(site))


def _fail_back(target: Console, machines: tuple[str, ...]) -> dict[str, Figures]:
    url = fail_back(target, machines)
    wait_until_failed_back(target, machines)
    figures = read_figures(target.lab, url)
    for name, one in figures.items():
        sys.stdout.write(f"{name}: {one.describe()}\n")
        assert one.is_history_whole, f"{name} began a new history at its source"
        assert one.sent_bytes == pytest.approx(one.quoted_send_bytes, rel=QUOTE_TOLERANCE), name
    return figures


def _check_that_the_old_core_knows(headquarters: Console, unsent_point_id: str) -> None:
    page = headquarters.page
    headquarters.open_replication()
    for name in MACHINES:
        headquarters.reload_until(headquarters.row(name).get_by_text("DR site owns it"))
    headquarters.open_machine("db-01")
    headquarters.reload_until(
        page.locator(f"#point-{unsent_point_id}").get_by_text("Not carried on")
    )
    expect(page.get_by_text("A branch that was not carried on")).to_be_visible()
    expect(page.get_by_text(re.compile("DR site since")).first).to_be_visible()


def _check_that_it_stayed_behind(lab: Lab, point_id: str) -> None:
    held = {
        site: {point["point_id"] for point in lab.points(site, "db-01")}
        for site in ("source", "target")
    }
    assert point_id in held["source"]
    assert point_id not in held["target"]


def _check_the_journal(lab: Lab, figures: Figures, earlier: list[str], tmp_path: Path) -> list[str]:
    """Nothing that was written before the freeze is missing, and nothing was written after it."""
    frozen = journal_of_point(lab, "target", figures.final_point_id, tmp_path)
    check_goes_on(earlier, frozen)
    vm_disk = _vm_folders(lab)["db-01"] / f"disk-{DISK_NUMBER}.qcow2"
    assert read_journal(vm_disk) == frozen
    newest = lab.newest_point_id("source", "db-01")
    check_goes_on(frozen, journal_of_point(lab, "source", newest, tmp_path))
    return frozen


def _vm_folders(lab: Lab) -> dict[str, Path]:
    """Return where the hypervisor of the DR site keeps its VMs' disks, by name."""
    folders = [guest.folder for guest in hosted_guests(lab.sites.vcenter)]
    return {json.loads((folder / "record.json").read_text())["name"]: folder for folder in folders}
