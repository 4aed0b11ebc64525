"""Whatever can be clicked has a name for people who do not see it, also on a phone."""

import re

import pytest
from playwright.sync_api import Page

from console.jobs.acts import start_job
from protected_machines.choices import PointKind
from protected_machines.points.workflow import SnapshotParams
from tests.factories import make_machine, make_recovery_point, make_vcenter
from tests.replication.rows import make_pairing, make_replicated

pytestmark = [
    pytest.mark.full,
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
]

NAMELESS = re.compile(r"^\s*$")
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
# Those to pages: what is only downloaded, the browser does not show.
PAGES = 'a[href^="/"]:not([download])'
LINKS = f"[...document.querySelectorAll('{PAGES}')].map(link => link.pathname)"


@pytest.fixture
def phone(page: Page) -> Page:
    """A small window on a console with something on every page."""
    machine = make_machine(name="web-01")
    make_recovery_point(machine, state="proven")
    make_recovery_point(machine, state="damaged")
    make_replicated(make_pairing(), machine)
    make_replicated(make_pairing(direction="incoming", peer_name="Headquarters"))
    make_vcenter(host="127.0.0.1", port=1)
    start_job("snapshot", machine.pk, machine.name, SnapshotParams(kind=PointKind.INCREMENTAL))
    page.set_viewport_size({"width": 400, "height": 800})
    return page


def nameless(page: Page) -> list[str]:
    """Return what can be clicked on the page and has no name."""
    found = [
        *page.get_by_role("link", name=NAMELESS).all(),
        *page.get_by_role("button", name=NAMELESS).all(),
        *(each for each in page.locator("summary:visible").all() if not each.text_content()),
    ]
    return [element.evaluate("element => element.outerHTML.slice(0, 200)") for element in found]


def test_no_page_has_a_link_a_button_or_a_summary_without_a_name(phone: Page) -> None:
    """Follow every link, of those that differ only in an ID the first."""
    waiting = ["/"]
    seen: set[str] = set()
    without: dict[str, list[str]] = {}
    while waiting:
        path = waiting.pop(0)
        if ID.sub("ID", path) in seen:
            continue
        seen.add(ID.sub("ID", path))
        phone.goto(path)
        if found := nameless(phone):
            without[path] = found
        waiting += phone.evaluate(LINKS)
    phone.context.clear_cookies()
    for path in ("/account/login/", "/nowhere/"):
        phone.goto(path)
        assert nameless(phone) == []
    assert without == {}
    assert {"/jobs/ID/", "/machines/ID/", "/replication/pairings/ID/fail-over/"} <= seen
