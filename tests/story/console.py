"""Somebody in front of a core's console."""

from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, TimeoutError

from tests.places.waiting import wait_until
from tests.story.two_sites import Lab

PEER = {"target": "Headquarters", "source": "DR site"}
RELOADED_EVERY_MS = 3_000
_DIRECTION = {"target": "Incoming Replication", "source": "Outgoing Replication"}


@dataclass
class Console:
    """A page of one site's core, and who is signed in there. `site` is `source` or `target`."""

    lab: Lab
    site: str
    page: Page

    def sign_in(self) -> None:
        core = self.lab.credentials[self.site]
        self.page.goto(core["url"])
        self.page.get_by_label("Username").fill(core["username"])
        self.page.get_by_label("Password").fill(core["password"])
        self.page.get_by_role("button", name="Sign in").click()

    def open_replication(self) -> None:
        self.page.get_by_role("link", name="Replication", exact=True).first.click()

    def make_pairing_code(self) -> str:
        """Make a code by which another core pairs with this one."""
        self.page.get_by_role("link", name="Settings", exact=True).first.click()
        self.page.get_by_role("link", name="Make a Pairing Code").click()
        dialog = self.page.get_by_role("dialog", name="Make a Pairing Code")
        dialog.get_by_role("button", name="Make Code").click()
        code = dialog.locator("#pairing-code").inner_text()
        dialog.get_by_role("link", name="Done").click()
        return code

    def open_machine(self, name: str) -> None:
        self.entry(name).click()

    def entry(self, name: str) -> Locator:
        """Return a machine's line in the navigation."""
        navigation = self.page.get_by_role("navigation", name="Protected Machines")
        return navigation.get_by_role("link").filter(has_text=name)

    @property
    def peer_row(self) -> Locator:
        """The other site's core on the Replication page."""
        return self._rows.filter(has_text=PEER[self.site]).first

    def row(self, machine: str) -> Locator:
        """Return a machine's row on the Replication page."""
        return self._rows.filter(has=self.page.get_by_role("link", name=machine)).first

    @property
    def _rows(self) -> Locator:
        return self.page.get_by_role("region", name=_DIRECTION[self.site]).get_by_role("row")

    def choose(self, row: Locator, item: str) -> None:
        """Choose from the Actions menu of a row."""
        row.get_by_role("button", name="Actions").click()
        row.get_by_role("menuitem", name=item, exact=True).click()

    def reload_until(self, locator: Locator, limit_seconds: float = 240) -> None:
        """Wait for something that the pages learn by and by, as a person who reloads would."""

        def is_there() -> bool:
            self.page.reload()
            try:
                locator.first.wait_for(state="attached", timeout=RELOADED_EVERY_MS)
            except TimeoutError:
                return False
            return True

        wait_until(is_there, str(locator), limit_seconds, detail=self.text)

    def wait_for_entry(self, name: str, text: str) -> None:
        """Wait until the navigation says `text` of a machine."""
        self.reload_until(self.entry(name).filter(has_text=text))

    def force_a_snapshot(self, machine: str) -> str:
        """Force a snapshot of a machine, and return the id of the new point."""
        before = self.lab.newest_point_id(self.site, machine)
        self.open_machine(machine)
        self.page.get_by_role("button", name="Force Snapshot").click()
        dialog = self.page.get_by_role("dialog", name="Force Snapshot")
        dialog.get_by_role("button", name="Force Snapshot").click()
        wait_until(
            lambda: self.lab.newest_point_id(self.site, machine) != before,
            f"the forced snapshot of {machine}",
            limit_seconds=300,
            detail=self.text,
        )
        return self.lab.newest_point_id(self.site, machine)

    def text(self) -> str:
        """Return what the page says, for whoever looks for a fault."""
        return self.page.locator("body").inner_text()


# Signs in at a site, in a session of its own.
OpenConsole = Callable[[str], Console]
