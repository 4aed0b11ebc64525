"""Lose Headquarters, and run its machines at the DR site."""

import re
from collections.abc import Sequence

from playwright.sync_api import expect

from tests.places.waiting import wait_until
from tests.story.console import Console
from tests.story.two_sites import Lab

LIMIT_MS = 900_000


def wait_for_incrementals(lab: Lab) -> None:
    """Wait until the target core has more than the base image of each machine."""

    def has_incrementals() -> bool:
        return all(len(lab.points("target", name)) >= 2 for name in lab.machines)

    wait_until(has_incrementals, "an incremental of each machine", 600, detail=lab.tail)


def leave_unsent(console: Console, machine: str) -> str:
    """Pause a machine's replication at its source, and take a point that stays there."""
    console.open_replication()
    console.choose(console.row(machine), "Pause")
    expect(console.row(machine)).to_contain_text("Paused")
    return console.force_a_snapshot(machine)


def lose_headquarters(lab: Lab) -> None:
    lab.command("-m", "lab", "disaster")


def fail_over(console: Console, machines: Sequence[str]) -> None:
    """Fail over by the dialog of the lost core, and wait until all run and are protected."""
    page = console.page
    console.open_replication()
    unreachable = console.peer_row.get_by_text("unreachable")
    console.reload_until(unreachable.first)
    console.choose(console.peer_row, "Fail Over")
    dialog = page.get_by_role("dialog", name="Fail Over")
    expect(dialog).to_be_visible()
    for name in machines:
        expect(dialog.get_by_text(name).first).to_be_visible()
    dialog.get_by_label("Reason").fill("Headquarters is lost.")
    dialog.get_by_role("button", name="Continue").click()

    page.wait_for_url(re.compile("/failovers/"))
    # Left and come back to.
    page.goto(page.url)
    for name in machines:
        machine = page.get_by_role("region", name=name)
        expect(machine).to_contain_text("Failed over", timeout=LIMIT_MS)

    console.open_replication()
    for name in machines:
        failed_over = console.row(name).get_by_text("failed over")
        console.reload_until(failed_over.first)
        console.wait_for_entry(name, "online")
