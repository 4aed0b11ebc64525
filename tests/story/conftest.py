"""Two real sites of this test's own, and a browser, for the stories told end to end."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.story.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
# Beside a lab that somebody runs by hand, and beside other tests.
PORT_SHIFT = 20_000


@dataclass
class Lab:
    """The two sites of a story: their home folder, and the process that runs them."""

    home: Path
    environment: dict[str, str]
    process: subprocess.Popen[str] | None = None
    output: list[str] = field(default_factory=list)
    reader: threading.Thread | None = None

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `python WORDS` in the lab's environment and return what it printed."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=900,
            check=check,
        )

    @property
    def credentials(self) -> dict[str, dict[str, str]]:
        return json.loads((self.home / "credentials.json").read_text())

    def points(self, site: str) -> list[dict[str, object]]:
        """Return what `recovery_store list --json` says of one site's store, oldest first."""
        store = str(self.home / site / "store")
        return json.loads(self.command("-m", "recovery_store", "list", store, "--json").stdout)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lab", "run"],
            cwd=ROOT,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.reader = threading.Thread(target=self._read_output, daemon=True)
        self.reader.start()

    def _read_output(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.output.append(line.rstrip())

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, "\n".join(self.output[-50:])
            return any("Understudy is ready" in line for line in self.output)

        wait_until(is_ready, "the lab to be ready", limit_seconds=1200, detail=self.tail)

    def tail(self) -> str:
        return "\n".join(self.output[-50:])

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.command("-m", "lab", "down", check=False)
        if self.reader is not None:
            self.reader.join(60)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two sites, ready, with the first points on the target core; all stopped at the end."""
    home = Path(os.environ.get("UNDERSTUDY_STORY_HOME") or tmp_path_factory.mktemp("story"))
    environment = {
        **os.environ,
        "UNDERSTUDY_HOME": str(home),
        "UNDERSTUDY_PORT_SHIFT": str(PORT_SHIFT),
        "PYTHONUNBUFFERED": "1",
    }
    # The lab gives each of its cores its own; the test run's must not leak into them.
    for name in ("REDIS_URL", "DATABASE_URL", "UNDERSTUDY_CORE_NAME"):
        environment.pop(name, None)
    lab = Lab(home, environment)
    lab.start()
    try:
        lab.wait_until_ready()
        yield lab
    finally:
        lab.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
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


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page in a fresh session; what it showed last is kept when the test fails."""
    context = browser.new_context(viewport={"width": 1440, "height": 960}, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    page = context.new_page()
    yield page
    page.screenshot(path=str(tmp_path / "last-page.png"), full_page=True)
    context.close()
