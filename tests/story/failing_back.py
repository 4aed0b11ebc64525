"""Get Headquarters back, and run the machines there again."""

import re
from collections.abc import Sequence

from playwright.sync_api import Locator, expect

from tests.story.console import Console
from tests.story.two_sites import Lab

LIMIT_MS = 900_000


def repair(lab: Lab, core: str) -> None:
    """Repair Headquarters with the `kept` or a `new` core; return when the machines wait."""
    lab.command("-m", "lab", "repair", "--core", core)


def add_source_core(console: Console, new: Console) -> None:
    """Pair the target core with the newly installed one at the address of the lost one."""
    code, port = new.make_pairing_code(), console.lab.sites.ports.source_core
    page = console.page
    console.open_replication()
    page.get_by_role("button", name="Add Source Core").click()
    dialog = page.get_by_role("dialog", name="Add Source Core")
    dialog.get_by_label("Address").fill("127.0.0.1")
    dialog.get_by_label("Port").fill(str(port))
    dialog.get_by_label("Pairing code").fill(code)
    expect(dialog.get_by_label("Replaces")).to_contain_text("Headquarters")
    dialog.get_by_role("button", name="Add Source Core").click()
    expect(page.get_by_role("heading", name="Headquarters", level=1)).to_be_visible()


def fail_back(console: Console, machines: Sequence[str]) -> str:
    """Start a failback by the dialog of the source core; return the address of its page."""
    page = console.page
    console.open_replication()
    console.choose(console.peer_row, "Failback")
    dialog = page.get_by_role("dialog", name="Failback")
    dialog.get_by_label("Reason").fill("Headquarters is repaired.")
    for name in machines:
        blank = console.lab.blank_machines[name]
        panel = dialog.locator(".panel").filter(has=page.get_by_role("checkbox", name=name))
        panel.get_by_label("Rescue machine").fill(blank["address"])
        panel.get_by_label("Port").fill(str(blank["port"]))
        panel.get_by_label("Code").fill(blank["code"])
        panel.get_by_label("Code").press("Tab")
        expect(panel).to_contain_text("which is blank")
    quote = dialog.get_by_role("region", name="Estimate")
    for words in ("To send", "Copying", "Downtime", "nothing: the disks"):
        expect(quote).to_contain_text(words)
    dialog.get_by_role("button", name="Start Failback").click()
    page.wait_for_url(re.compile("/failbacks/"))
    return page.url


def wait_until_failed_back(console: Console, machines: Sequence[str]) -> None:
    """Watch the page of a failback until its machines run at their source again."""
    # The page renews itself while it is looked at; left and come back to, it goes on.
    console.page.goto(console.page.url)
    for name in machines:
        expect(panel_of(console, name)).to_contain_text(
            "Failed back, not committed", timeout=LIMIT_MS
        )


def panel_of(console: Console, machine: str) -> Locator:
    """Return a machine's part of a failback's page."""
    return console.page.get_by_role("region", name=machine)


def commit(console: Console, machine: str) -> None:
    _end(console, machine, "Commit", "Committed")


def roll_back(console: Console, machine: str) -> None:
    _end(console, machine, "Roll back", "Rolled back")


def _end(console: Console, machine: str, button: str, outcome: str) -> None:
    console.page.once("dialog", lambda asked: asked.accept())
    panel_of(console, machine).get_by_role("button", name=button).click()
    state = panel_of(console, machine).locator(".panel-head").get_by_text(outcome, exact=True)
    expect(state).to_be_visible(timeout=LIMIT_MS)
