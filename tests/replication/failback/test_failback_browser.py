"""The dialog Failback and its page in a real browser, as a person uses them."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from console.jobs.models import Job
from console.jobs.testing import run_until_done
from protected_machines.exports.options import VmOptions
from protected_machines.models import Machine, RecoveryPoint
from replication.peers.pairing import add_source_core
from tests.places.agent import RESCUE_CODE, RunningAgent
from tests.places.peer_core import PeerCore
from tests.replication.failback.failbacks import FailedOver, hand_back, replicating_back, run_here

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def failed_over(
    machine: Machine,
    take_point: Callable[[], RecoveryPoint],
    source: PeerCore,
    options: VmOptions,
) -> FailedOver:
    take_point()
    take_point()
    return run_here(
        machine, add_source_core("127.0.0.1", source.port, source.pairing_code), options
    )


def run(kind: str) -> None:
    """Be the worker."""
    run_until_done(Job.objects.get(kind=kind), limit_seconds=60)


def test_from_the_menu_to_the_commit(
    page: Page, failed_over: FailedOver, rescue: RunningAgent, source: PeerCore
) -> None:
    page.goto("/replication/")
    row = page.locator(f"#replicated-{failed_over.replicated.pk}")
    row.locator("summary").click()
    row.get_by_role("menuitem", name="Failback").click()
    dialog = page.get_by_role("dialog", name="Failback")
    expect(dialog.locator("#failback-quote")).to_contain_text("MiB")
    expect(dialog.get_by_role("button", name="Start Failback")).to_be_disabled()
    dialog.get_by_label("Reason").fill("The site is repaired.")
    dialog.get_by_label("Rescue machine").fill("127.0.0.1")
    dialog.get_by_label("Port").fill(str(rescue.port))
    dialog.get_by_label("Code").fill(RESCUE_CODE)
    dialog.get_by_label("Code").press("Tab")
    expect(dialog).to_contain_text("which is blank")
    dialog.get_by_role("button", name="Start Failback").click()
    expect(page.get_by_role("heading", name=f"Failback to {source.name}")).to_be_visible()
    expect(page.locator("section .panel-head")).to_contain_text("Waiting")
    with replicating_back(source, failed_over):
        run("failback")
    expect(page.get_by_role("heading", name="Failed back, not committed")).to_be_visible()
    page.get_by_role("button", name="Commit").click()
    expect(page.locator("[data-step=remove_vm]")).to_be_visible()
    run("failback_commit")
    expect(page.get_by_role("heading", name="Committed")).to_be_visible()
    expect(page.get_by_role("button", name="Roll back")).to_have_count(0)


def test_roll_back_from_the_machine_s_row(page: Page, failed_over: FailedOver) -> None:
    hand_back(failed_over)
    page.goto("/replication/")
    row = page.locator(f"#replicated-{failed_over.replicated.pk}")
    expect(row).to_contain_text("Failed back, not committed")
    row.get_by_role("link", name="Its VM is kept here").click()
    page.get_by_role("button", name="Roll back").click()
    expect(page.locator("[data-step=take_ownership]")).to_be_visible()
    run("failback_roll_back")
    expect(page.locator("section .panel-head")).to_contain_text("Rolled back")
    page.goto("/replication/")
    expect(row).to_contain_text("Failed over")
