"""The main story: Headquarters is lost, and its machines run again at the DR site."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.story.conftest import Lab
from tests.story.journal import check_journal, read_journal
from tests.story.waiting import wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]

MACHINES = ("db-01", "web-01")
FAILOVER_LIMIT_MS = 900_000


def test_the_machines_of_a_lost_site_run_at_the_dr_site(
    lab: Lab, page: Page, tmp_path: Path
) -> None:
    _wait_for_incrementals(lab)
    lab.command("-m", "lab", "disaster")
    lost = {name: _newest(lab, name)["point_id"] for name in MACHINES}

    _sign_in(lab, page)
    page.get_by_role("link", name="Replication", exact=True).first.click()
    incoming = page.get_by_role("region", name="Incoming Replication")
    core = incoming.get_by_role("row").filter(has_text="Headquarters").first
    _reload_until(page, core.get_by_text(re.compile("unreachable", re.IGNORECASE)).first)

    core.get_by_role("button", name="Actions").click()
    core.get_by_role("menuitem", name="Fail Over").click()
    dialog = page.get_by_role("dialog", name="Fail Over")
    expect(dialog).to_be_visible()
    for name in MACHINES:
        expect(dialog.get_by_text(name).first).to_be_visible()
    dialog.get_by_role("button", name="Continue").click()

    page.wait_for_url(re.compile("/failovers/"))
    failover_url = page.url
    page.goto(failover_url)
    for name in MACHINES:
        machine = page.get_by_role("region", name=name)
        expect(machine).to_contain_text("Failed over", timeout=FAILOVER_LIMIT_MS)
    page.screenshot(path=str(tmp_path / "failover.png"), full_page=True)

    page.get_by_role("link", name="Replication", exact=True).first.click()
    _reload_until(page, incoming.get_by_text(re.compile("failed over", re.IGNORECASE)).first)
    navigation = page.get_by_role("navigation", name="Protected Machines")
    for name in MACHINES:
        entry = navigation.get_by_role("link").filter(has_text=name)
        _reload_until(page, entry.filter(has_text=re.compile("online", re.IGNORECASE)))

    _force_a_snapshot(lab, page, "db-01")
    _check_the_journal(lab, lost["db-01"], tmp_path)
    store = str(lab.home / "target" / "store")
    assert lab.command("-m", "recovery_store", "check", store, check=False).returncode == 0


def _sign_in(lab: Lab, page: Page) -> None:
    target = lab.credentials["target"]
    page.goto(target["url"])
    page.get_by_label("Username").fill(target["username"])
    page.get_by_label("Password").fill(target["password"])
    page.get_by_role("button", name="Sign in").click()


def _reload_until(page: Page, locator: Locator) -> None:
    """Wait for something that the pages learn by and by, as a person who reloads would."""

    def is_there() -> bool:
        page.reload()
        return locator.count() > 0

    wait_until(is_there, str(locator), limit_seconds=240)


def _points_of(lab: Lab, machine: str) -> list[dict[str, object]]:
    return [point for point in lab.points("target") if point["machine_name"] == machine]


def _newest(lab: Lab, machine: str) -> dict[str, object]:
    return _points_of(lab, machine)[-1]


def _wait_for_incrementals(lab: Lab) -> None:
    def has_incrementals() -> bool:
        return all(len(_points_of(lab, name)) >= 2 for name in MACHINES)

    wait_until(has_incrementals, "an incremental of each machine", 600, detail=lab.tail)


def _force_a_snapshot(lab: Lab, page: Page, machine: str) -> None:
    before = len(_points_of(lab, machine))
    navigation = page.get_by_role("navigation", name="Protected Machines")
    navigation.get_by_role("link").filter(has_text=machine).click()
    page.get_by_role("button", name="Force Snapshot").click()
    dialog = page.get_by_role("dialog", name="Force Snapshot")
    dialog.get_by_role("button", name="Force Snapshot").click()
    wait_until(
        lambda: len(_points_of(lab, machine)) > before, "the forced snapshot", limit_seconds=300
    )


def _check_the_journal(lab: Lab, lost_point_id: object, tmp_path: Path) -> None:
    """The newest point carries every record of the point failed over to, and goes on."""
    store = str(lab.home / "target" / "store")
    journals = {}
    for label, point_id in (
        ("before", lost_point_id),
        ("after", _newest(lab, "db-01")["point_id"]),
    ):
        vmdk = tmp_path / f"{label}.vmdk"
        lab.command("-m", "recovery_store", "export", store, str(point_id), "1", str(vmdk))
        journals[label] = read_journal(vmdk)
        check_journal(journals[label])
    before, after = journals["before"], journals["after"]
    assert before, "the journal was empty at the failover"
    assert after[: len(before)] == before
    assert len(after) > len(before), "nothing was written at the DR site"
