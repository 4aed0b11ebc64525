"""A browser at the consoles of the two sites that each story has of its own, as `lab`."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.story.console import Console, OpenConsole
from tests.story.two_sites import Lab

# Emulated machines take the processors away from the pages.
WAIT_MS = 60_000


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
