"""Two real sites of this module's own, and a browser, for the story told end to end."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.story.console import Console
from tests.story.failing_over import (
    fail_over,
    leave_unsent,
    lose_headquarters,
    wait_for_incrementals,
)
from tests.story.two_sites import MACHINES, Lab

# Emulated machines take the processors away from the pages.
WAIT_MS = 60_000
OpenConsole = Callable[[str], Console]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two sites, ready, with the first points on the target core; all stopped at the end."""
    home = os.environ.get("UNDERSTUDY_STORY_HOME") or tmp_path_factory.mktemp("story")
    lab = Lab.at(Path(home))
    lab.start()
    try:
        lab.wait_until_ready()
        yield lab
    finally:
        lab.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()
    expect.set_options(timeout=5_000)


@pytest.fixture(scope="module")
def open_console(
    lab: Lab, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenConsole]:
    """Sign in at a site in a session of its own; what each page showed last is kept."""
    contexts: list[BrowserContext] = []

    def sign_in(site: str) -> Console:
        context = browser.new_context(
            viewport={"width": 1440, "height": 960}, reduced_motion="reduce"
        )
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        console = Console(lab, site, context.new_page())
        console.sign_in()
        return console

    yield sign_in
    shots = tmp_path_factory.mktemp("pages")
    for number, context in enumerate(contexts):
        for page in context.pages:
            page.screenshot(path=str(shots / f"last-page-{number}.png"), full_page=True)
        context.close()


@dataclass(frozen=True)
class FailedOver:
    """The machines run at the DR site: where the story stands then."""

    target: Console
    # The recovery point that each machine went on from.
    lost_point_ids: dict[str, str]
    # A point of db-01 that Headquarters took and never sent.
    unsent_point_id: str
    # One that was taken at the DR site.
    forced_point_id: str


@pytest.fixture(scope="module")
def failed_over(lab: Lab, open_console: OpenConsole) -> FailedOver:
    """Headquarters is lost with a point that it had not sent; its machines are failed over."""
    wait_for_incrementals(lab)
    unsent_point_id = leave_unsent(open_console("source"), "db-01")
    lose_headquarters(lab)
    lost = {name: lab.newest_point_id("target", name) for name in MACHINES}
    target = open_console("target")
    fail_over(target, MACHINES)
    return FailedOver(target, lost, unsent_point_id, target.force_a_snapshot("db-01"))
