"""Archive, Import Archive and seed drives in a real browser, as a person uses them."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from console.jobs.models import Job
from console.jobs.testing import run_until_done
from recovery_store.store import Store
from replication.models import SeedDrive
from tests.protected_machines.archives.archived import Archived, forget, make_archived
from tests.replication.rows import make_pairing, make_replicated

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def archived(transactional_db: None, store: Store, tmp_path: Path) -> Archived:
    return make_archived(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "usb"
    folder.mkdir()
    return folder


def run(kind: str) -> Job:
    """Be the worker."""
    return run_until_done(Job.objects.get(kind=kind), limit_seconds=60)


def test_an_archive_there_and_back(
    page: Page,
    archived: Archived,
    store: Store,
    disk: Path,
    tmp_path: Path,
) -> None:
    page.goto(archived.machine.get_absolute_url())
    page.locator("details.menu summary", has_text="Actions").first.click()
    page.get_by_role("menuitem", name="Archive").click()
    dialog = page.get_by_role("dialog", name="Archive")
    dialog.get_by_label("Folder").fill("usb/archive")
    dialog.get_by_label("Folder").press("Tab")
    expect(dialog).to_contain_text("ARCHIVE-PATH-RELATIVE")
    expect(dialog.get_by_role("button", name="Archive")).to_be_disabled()
    dialog.get_by_label("Folder").fill(str(disk / "archive"))
    dialog.get_by_label("Folder").press("Tab")
    expect(dialog).to_contain_text("in 2 recovery points")
    dialog.get_by_role("button", name="Archive").click()
    expect(page.get_by_role("heading", name="Archive", level=1)).to_be_visible()
    run("archive")
    expect(page.get_by_text("Done").first).to_be_visible()

    forget(archived.points[0].machine_id)
    page.goto("/machines/")
    page.get_by_role("button", name="Import Archive").click()
    dialog = page.get_by_role("dialog", name="Import Archive")
    dialog.get_by_label("Folder").fill(str(disk / "archive"))
    dialog.get_by_role("button", name="Next").click()
    expect(dialog.get_by_role("checkbox", name="db-01")).to_be_checked()
    dialog.get_by_role("button", name="Import Archive").click()
    expect(page.locator("body")).to_contain_text("Importing recovery points of")
    run("import_archive")
    page.goto("/machines/")
    page.get_by_role("row", name="db-01").get_by_role("link", name="db-01").click()
    expect(page.locator("body")).to_contain_text("Recovery points only")
    expect(page.locator("[id^=point-]").filter(has_text="Proven")).to_have_count(2)
    archived.machine.pk = archived.points[0].machine_id
    archived.assert_same_disks(store, tmp_path)


def test_a_seed_drive_is_made_and_abandoned(
    page: Page,
    archived: Archived,
    disk: Path,
) -> None:
    replicated = make_replicated(make_pairing(), archived.machine)
    page.goto("/replication/")
    row = page.locator(f"#pairing-{replicated.pairing_id}")
    row.locator("summary").click()
    row.get_by_role("menuitem", name="Copy to Seed Drive").click()
    dialog = page.get_by_role("dialog", name="Copy to Seed Drive")
    expect(dialog.get_by_role("checkbox", name="db-01")).to_be_checked()
    dialog.get_by_label("Folder").fill(str(disk / "seed"))
    dialog.get_by_label("Folder").press("Tab")
    expect(dialog).to_contain_text("in 2 recovery points")
    dialog.get_by_role("button", name="Copy").click()
    expect(page.locator("body")).to_contain_text("Copying")
    run("seed_drive")
    page.goto("/replication/")
    expect(page.locator(f"#replicated-{replicated.pk}")).to_contain_text("On a seed drive")
    panel = page.locator("#seed-drives")
    expect(panel).to_contain_text("Outstanding")
    panel.get_by_role("link", name="Abandon").click()
    dialog = page.get_by_role("dialog", name="Abandon")
    expect(dialog).to_contain_text(str(disk / "seed"))
    dialog.get_by_role("button", name="Abandon").click()
    expect(page.locator("#seed-drives")).to_have_count(0)
    assert SeedDrive.objects.get().state == "abandoned"
